"""HFGI (Wang et al. 2022): what the first reconstruction lost is aligned, encoded, and given to the generator's features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, TypeAdapter
from torch import Tensor, nn

from ganinv.codes.code import Code, Feature
from ganinv.generators.sites import Site, find_site, site_shape, site_statistics
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.terms import Terms
from ganinv.methods.adversary import AdversarialLearner, AdversarialRecipe
from ganinv.methods.base import Inverter, InverterConfig
from ganinv.methods.feature_site import check_features
from ganinv.methods.inputs import band, fit
from ganinv.methods.learning import new_inverter
from ganinv.networks.fusion import ConsultationEncoder, ResidualAligner
from ganinv.training.augment import perspective
from ganinv.training.batches import Batch
from ganinv.training.learner import Learner
from ganinv.training.step import Step


class HfgiConfig(InverterConfig):
    """The shape of HFGI, by default as it is published."""

    kind: Literal["hfgi"] = "hfgi"
    input_height: int = 256
    input_width: int = 256
    img_channels: int = 3
    site: str = "act[7]"
    """The features that are scaled and shifted: the up-sampling convolution to 64x64. In a recipe it may be named by
    meaning, ``{resolution: 1/4, kind: up}``."""
    side: int = 64
    """Their height and width."""
    channels: int = 512
    """Their channels."""
    squeezed_residual: bool = False
    """For renderings of another aspect than the images (cars): residuals are of the whole rendering, squeezed, as the published
    inference script of UDA-Inversion has it; by default of its central band, as in its training."""
    in_units: bool = False
    """Shifts are in standard deviations of the features, measured when training begins; the published ones are not."""

    @classmethod
    def for_generator(cls, generator: Generator, given: Mapping[str, Any]) -> dict[str, Any]:
        """The up-sampling convolution at the same share of the layers as act[7] has of the published 17, unless ``site``
        says otherwise, and images of the generator's size where that is below 256."""
        convs = generator.cfg.num_convs
        asked = given.get("site", f"act[{max(1, 2 * round(7 / 16 * (convs - 1) / 2) - 1)}]")
        adapter: TypeAdapter[Any] = TypeAdapter(Site)
        site = find_site(adapter.validate_python(asked), generator)
        channels, side = site_shape(site, generator)
        size = min(256, generator.resolution)
        shape = {"side": side, "channels": channels, "img_channels": generator.img_channels, "in_units": True}
        return {**shape, "input_height": size, "input_width": size, **given, "site": site}


class Hfgi(Inverter):
    """``hfgi(images [B, C, R, R] in [-1, 1]) -> Code`` in W+, with scale and shift of the features at one site.

    ``needed["encoder"]`` gives the latent (e4e). An edit is consulted again against its own rendering, so it needs the photo.
    """

    Config = HfgiConfig
    needs = ("encoder",)
    edits_need_images = True
    cfg: HfgiConfig
    deviation: Tensor

    def build(self) -> None:
        cfg = self.cfg
        self.aligner = ResidualAligner(cfg.img_channels)
        self.consultant = ConsultationEncoder(cfg.channels, cfg.img_channels)
        self.input_size = (cfg.input_height, cfg.input_width)
        if cfg.in_units:
            self.register_buffer("deviation", torch.ones(cfg.channels))

    def bind(self, generator: Generator) -> None:
        super().bind(generator)
        check_features(self.cfg.kind, self.cfg.site, (self.cfg.channels, self.cfg.side), generator)

    def begin(self) -> None:
        if self.cfg.in_units:
            self.deviation.copy_(site_statistics(self.cfg.site, self.generator)[1])

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
        residual, first = self.residual(images, code)
        target = code if edited is None else edited
        shown = first if edited is None else self._small(self.generator.synthesize(edited))
        return replace(target, features=self.conditions(self.align(residual, shown)))

    def residual(self, images: Tensor, code: Code) -> tuple[Tensor, Tensor]:
        """What the rendering of ``code`` lacks of the images, and that rendering: [B, C, *input_size] each."""
        rendering = self.generator.synthesize(code)
        first = self._small(rendering)
        compared = _resized(rendering.clamp(-1, 1), self.input_size) if self.cfg.squeezed_residual else first
        return fit(images, self.input_size) - compared, first

    def align(self, residual: Tensor, shown: Tensor) -> Tensor:
        """The residual where it belongs on the rendering ``shown``, [B, C, *input_size] each (section 3.3)."""
        return self.aligner(torch.cat([residual, shown], dim=1))

    def conditions(self, aligned: Tensor) -> dict[str, Feature]:
        """Scale and shift of the features that an aligned residual [B, C, *input_size] asks for (section 3.2)."""
        size = (self.cfg.side, self.cfg.side)
        scale, shift = (_resized(condition, size) for condition in self.consultant(aligned))
        if self.cfg.in_units:
            shift = shift * self.deviation[:, None, None]
        return {self.cfg.site: Feature(film=(scale, shift))}

    def _small(self, rendering: Tensor) -> Tensor:
        return _resized(band(rendering.clamp(-1, 1), self.input_size), self.input_size)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    # Without antialiasing, as the published weights were trained.
    return x if x.shape[2:] == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class HfgiRecipe(AdversarialRecipe):
    """Training HFGI (section 3.4): on inversions alone, with residuals that are put out of place on purpose.

    Only the aligner and the consultation encoder learn; encoder and generator stay as they are, statistics included. The paper
    has an adversarial term, the published code has none: ``adversarial`` is 0 unless it is asked for.
    """

    kind: Literal["hfgi"] = "hfgi"
    needed: Mapping[str, str] = Field(default_factory=lambda: {"encoder": "e4e"})
    alignment: float = Field(0.1, ge=0)
    """Weight of the mean absolute difference between the aligned residual and the one that was not moved."""
    distortion: float = Field(0.15, ge=0, lt=1)
    """How far the corners of a residual move, as a share of half its side (``augment.perspective``)."""
    distortion_probability: float = Field(0.9, ge=0, le=1)
    """Of a residual to be moved. Each image has its own move; the published code has one for the batch."""

    def build(self, generator: Generator, needed: Mapping[str, nn.Module], start: nn.Module | None) -> Learner:
        return HfgiLearner(self, new_inverter(Hfgi, self, generator, needed, start))


class HfgiLearner(AdversarialLearner[Hfgi, HfgiRecipe]):
    """One step of HFGI's training."""

    def passes(self, batch: Batch, step: Step) -> Iterator[Terms]:
        hfgi, recipe = self.network, self.recipe
        with torch.no_grad():
            code = hfgi.need("encoder")(batch.images)
            residual, first = hfgi.residual(batch.images, code)
            moved = perspective(residual, step.stream("distortion"), recipe.distortion, recipe.distortion_probability)
        aligned = hfgi.align(moved, first)
        code = replace(code, features=hfgi.conditions(aligned))
        rendered = self.generator.synthesize(code)
        terms = {**self.losses(rendered, batch, code), **self.adversary.terms(rendered, batch, step)}
        yield {**terms, "alignment": (recipe.alignment, F.l1_loss(aligned, residual))}
