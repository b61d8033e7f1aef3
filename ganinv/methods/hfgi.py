"""HFGI (Wang et al. 2022): what the first reconstruction lost is aligned, encoded, and given to the generator's features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.codes.code import Code, Feature
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.base import Inverter, InverterConfig
from ganinv.methods.inputs import band, fit
from ganinv.networks.fusion import ConsultationEncoder, ResidualAligner


class HfgiConfig(InverterConfig):
    """The shape of HFGI, by default as it is published."""

    kind: Literal["hfgi"] = "hfgi"
    input_height: int = 256
    input_width: int = 256
    site: str = "act[7]"
    """The features that are scaled and shifted: the up-sampling convolution to 64x64."""
    side: int = 64
    """Their height and width."""
    channels: int = 512
    """Their channels."""

    @classmethod
    def for_generator(cls, generator: Generator, given: Mapping[str, Any]) -> dict[str, Any]:
        """The up-sampling convolution at the same share of the layers as act[7] has of the published 17, and images of the
        generator's size where that is below 256."""
        convs = generator.synthesis.convs
        k = max(1, 2 * round(7 / 16 * (len(convs) - 1) / 2) - 1)
        side = 4 * 2 ** ((k + 1) // 2)
        size = min(256, generator.resolution)
        shape = {"site": f"act[{k}]", "side": side, "channels": generator.cfg.channels[(k + 1) // 2]}
        return {**shape, "input_height": size, "input_width": size, **given}


class Hfgi(Inverter):
    """``hfgi(images [B, 3, R, R] in [-1, 1]) -> Code`` in W+, with scale and shift of the features at one site.

    ``needed["encoder"]`` gives the latent (e4e). An edit is consulted again against its own rendering, so it needs the photo.
    """

    Config = HfgiConfig
    needs = ("encoder",)
    edits_need_images = True
    cfg: HfgiConfig

    def build(self) -> None:
        self.aligner, self.consultant = ResidualAligner(), ConsultationEncoder(self.cfg.channels)
        self.input_size = (self.cfg.input_height, self.cfg.input_width)

    def refine(
        self, images: Tensor, code: Code | None = None, *, steps: int | None = None, detach: bool = False
    ) -> Iterator[Code]:
        yield self.consult(images, self.need("encoder")(images) if code is None else code)

    def after_edit(self, images: Tensor | None, code: Code, edited: Code) -> Code:
        if images is None:
            raise ValueError("an edit of HFGI is consulted again, which needs the photo: give images")
        return self.consult(images, replace(code, features=None), replace(edited, features=None))

    def consult(self, images: Tensor, code: Code, edited: Code | None = None) -> Code:
        """The code (or an edit of it) with the features that bring the image's details back.

        The residual belongs to the inversion ``code``, and is aligned with the rendering of what is returned. So an edit
        needs conditions of its own: those of the inversion would put details where they were before.
        """
        images = fit(images, self.input_size)
        first = self._small(self.generator.synthesize(code))
        target = code if edited is None else edited
        shown = first if edited is None else self._small(self.generator.synthesize(edited))
        aligned = self.aligner(torch.cat([images - first, shown], dim=1))
        scale, shift = (_resized(condition, (self.cfg.side, self.cfg.side)) for condition in self.consultant(aligned))
        return replace(target, features={self.cfg.site: Feature(film=(scale, shift))})

    def _small(self, rendering: Tensor) -> Tensor:
        return _resized(band(rendering.clamp(-1, 1), self.input_size), self.input_size)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    # Without antialiasing, as the published weights were trained.
    return x if x.shape[2:] == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)
