"""What optimisation and tuning minimise: the distance of a rendering to its image, and terms that keep the code where edits
work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.codes.segments import sequential_sum
from ganinv.config import StrictModel
from ganinv.losses.alignment import StyleAlignment
from ganinv.losses.distance import Distance, DistanceName, between, halved
from ganinv.losses.priors import GaussianPrior, LatentPriorConfig, row_deltas
from ganinv.stages.base import Context, InverterName
from ganinv.target import Target

ALIGNMENT_SAMPLES = 20_000
"""Mapped latents whose mean styles codes are held against: twenty times as many move no anchor by a hundredth."""


class Objective(Protocol):
    """A loss for each image of a target."""

    def reference(self, index: Sequence[int]) -> Any:
        """What never changes for some images of the target, computed once: tensors [n, ...] in dicts and tuples."""
        ...

    def __call__(self, images: Tensor, code: Code, reference: Any) -> tuple[Tensor, Tensor]:
        """Loss and perceptual distance (zero when it has no weight) per image: [B], [B].

        Args:
            images: renderings [B, 3, R, R] of ``code``. reference: of the same images, in the same order.
        """
        ...


@dataclass(frozen=True)
class Together:
    """The sum of several objectives, such as one image inside a mask and another one outside."""

    parts: Sequence[Objective]

    def reference(self, index: Sequence[int]) -> Any:
        return tuple(part.reference(index) for part in self.parts)

    def __call__(self, images: Tensor, code: Code, reference: Any) -> tuple[Tensor, Tensor]:
        measured = [part(images, code, own) for part, own in zip(self.parts, reference, strict=True)]
        # Added one after the other: a sum over a stack is done in an order that depends on the number of images.
        return reduce(torch.add, [loss for loss, _ in measured]), reduce(torch.add, [far for _, far in measured])


class DomainLoss(StrictModel):
    """The encoder's opinion: ``weight * mean((w - E(x))^2)``, with x the rendering (In-Domain inversion, Zhu et al. 2020)
    or the image itself, whose code is a constant (Anycost GAN)."""

    encoder: InverterName = "e4e"
    weight: float = Field(2.0, ge=0)
    of: Literal["rendering", "image"] = "rendering"


class ReconstructionLoss(StrictModel):
    """``distance_weight`` * perceptual distance + ``mse_weight`` * mean squared error on [-1, 1] + terms on the code."""

    distance: DistanceName = "embedded"
    distance_weight: float = Field(1.0, ge=0)
    mse_weight: float = Field(1.0, ge=0)
    distance_resolution: int | None = Field(None, ge=8)
    """Images larger than this are halved until they are not, before the perceptual distance (256 in the projector)."""
    domain: DomainLoss | None = None
    dispersion_weight: float = Field(0.0, ge=0)
    """Of ``mean(((w - w_mean) / w_std)^2)``, which keeps codes near the mean (ChunkyGAN, Subrtova et al. 2022; 10 in the
    published code). Of a code with segments, the sum over those that an image has."""
    dispersion_wplus_div: bool = False
    """Divided by the number of rows once more, as the published code does in W+."""
    prior: LatentPriorConfig | None = None
    """Keeps codes in W+ where mapped latents are, and their rows together (SAM inversion, Parmar et al. 2022)."""
    alignment_weight: float = Field(0.0, ge=0)
    """Of what each row's style is farther from the generator's own than samples are, in units of theirs (LSAP by
    optimisation, Cao et al. 2022, section 3)."""

    def prepare(self, target: Target, context: Context) -> Reconstruction:
        return Reconstruction(self, target, context)


class Reconstruction:
    """A :class:`ReconstructionLoss` against one target. Where the target has masks, only what they show counts: the
    rendering is laid over the image before anything is measured, so pixels outside have no gradient at all."""

    def __init__(self, cfg: ReconstructionLoss, target: Target, context: Context) -> None:
        self.cfg, self._target = cfg, target
        self._distance: Distance | None = context.distance(cfg.distance) if cfg.distance_weight else None
        self._encoder = context.inverter(cfg.domain.encoder) if cfg.domain else None
        self._w_mean, self._w_std = context.generator.w_mean, context.generator.w_std
        gaussian = cfg.prior is not None and cfg.prior.gaussian
        self._likely = GaussianPrior.of(context.generator, cfg.prior.samples) if cfg.prior and gaussian else None
        self._alignment = StyleAlignment(context.generator, ALIGNMENT_SAMPLES) if cfg.alignment_weight else None

    @torch.no_grad()
    def reference(self, index: Sequence[int]) -> Mapping[str, Any]:
        at = torch.tensor(index, device=self._target.images.device)
        images = self._target.images[at]
        out: dict[str, Any] = {"images": images}
        if self._target.masks is not None:
            out["masks"] = self._target.masks[at]
        if self._distance is not None:
            out["features"] = tuple(self._distance.features(halved(images, self.cfg.distance_resolution)))
        if self._encoder is not None and self.cfg.domain is not None and self.cfg.domain.of == "image":
            out["encoded"] = self._encoder(images).w
        return out

    def __call__(self, images: Tensor, code: Code, reference: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        cfg, target = self.cfg, reference["images"]
        if "masks" in reference:
            images = target + reference["masks"] * (images - target)
        loss = distance = images.new_zeros(len(images))
        if self._distance is not None:
            features = self._distance.features(halved(images, cfg.distance_resolution))
            distance = between(features, reference["features"])
            loss = loss + cfg.distance_weight * distance
        if cfg.mse_weight:
            loss = loss + cfg.mse_weight * (images - target).square().mean(dim=(1, 2, 3))
        if self._encoder is not None and cfg.domain is not None:
            encoded = reference["encoded"] if "encoded" in reference else self._encoder(images).w
            loss = loss + cfg.domain.weight * (code.w - encoded).square().mean(dim=(1, 2))
        if cfg.dispersion_weight:
            loss = loss + cfg.dispersion_weight * self._dispersion(code)
        if cfg.prior is not None:
            if self._likely is not None:
                loss = loss + cfg.prior.gaussian * self._likely(code.w)
            if cfg.prior.delta:
                loss = loss + cfg.prior.delta * row_deltas(code.w)
        if self._alignment is not None:
            loss = loss + cfg.alignment_weight * self._alignment.beyond(code.w)
        return loss, distance

    def _dispersion(self, code: Code) -> Tensor:
        segments = code.segments
        w = code.w if segments is None else code.w[:, None] + segments.w
        spread = ((w - self._w_mean) / self._w_std).square().mean(dim=(-2, -1))
        if segments is not None:
            spread = sequential_sum(spread * segments.present())
        return spread / w.shape[-2] if self.cfg.dispersion_wplus_div else spread
