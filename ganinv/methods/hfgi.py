"""HFGI (Wang et al. 2022): what the first reconstruction lost is aligned, encoded, and given to the generator's features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.codes.code import Code, Feature
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.base import ImageEncoder, fingerprint_of
from ganinv.methods.inputs import band, fit
from ganinv.networks.fusion import ConsultationEncoder, ResidualAligner

SITE, SIDE = "act[7]", 64  # the up-sampling convolution to 64x64


class Hfgi:
    """``hfgi(images [B, 3, R, R] in [-1, 1]) -> Code`` in W+, with scale and shift of the features at ``act[7]``.

    Args:
        encoder: gives the latent (e4e); None when codes are always given to ``consult``.
        generator: the one that all networks were trained with.
    """

    def __init__(
        self,
        encoder: ImageEncoder | None,
        aligner: ResidualAligner,
        consultant: ConsultationEncoder,
        generator: Generator,
        input_size: tuple[int, int] = (256, 256),
    ) -> None:
        self.encoder, self.aligner, self.consultant, self.generator = encoder, aligner, consultant, generator
        self.input_size = encoder.input_size if encoder is not None else input_size

    def __call__(self, images: Tensor) -> Code:
        if self.encoder is None:
            raise ValueError("this HFGI has no encoder: give the latents to consult(images, code)")
        return self.consult(images, self.encoder(images))

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
        scale, shift = (_resized(condition, (SIDE, SIDE)) for condition in self.consultant(aligned))
        return Code(w=target.w, features={SITE: Feature(film=(scale, shift))})

    def _small(self, rendering: Tensor) -> Tensor:
        return _resized(band(rendering.clamp(-1, 1), self.input_size), self.input_size)

    @property
    def fingerprint(self) -> str:
        """sha256 over the weights of its networks."""
        networks = [m for m in (self.encoder, self.aligner, self.consultant) if m is not None]
        return fingerprint_of(*networks)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    # Without antialiasing, as the published weights were trained.
    return x if x.shape[2:] == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)
