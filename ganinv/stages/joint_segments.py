"""Segments optimised together, and their masks with them.

ChunkyGAN (Subrtova et al. 2022) finds masks by a second network; its weights are not public. Here the masks themselves
move: logits at a quarter of the resolution, a softmax over the segments, total variation against fragments. That is this
project's own design.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from ganinv.codes.code import Code, Segments
from ganinv.codes.segments import sequential_sum
from ganinv.config import StrictModel
from ganinv.errors import ConfigError
from ganinv.generators.stylegan2 import Generator
from ganinv.optim.batched import Adam
from ganinv.stages.base import Context, StageResult
from ganinv.stages.descent import Descent, Stop
from ganinv.stages.objective import ReconstructionLoss
from ganinv.stages.optimize import ramps
from ganinv.stages.variables import DescentStep, Free, Tensors, Variable
from ganinv.target import Target

_EMPTY = -1e4
"""The logit of a segment that an image does not have: its softmax is zero, and so is the gradient."""


class JointSegments(StrictModel):
    """Optimise the latents of all segments of an image together, on the composite, and learn the masks.

    What the masks cover together stays what it is; how it is shared out among them is learned.
    """

    iterative: ClassVar[bool] = True

    kind: Literal["joint-segments"] = "joint-segments"
    space: Literal["w", "w+"] | None = "w+"
    """null: the latents stay."""
    steps: int = Field(100, ge=1)
    lr: float = Field(0.05, gt=0)
    lr_rampup: float = Field(0.05, ge=0, le=1)
    lr_rampdown: float = Field(0.25, ge=0, le=1)
    mask_lr: float | None = Field(0.05, gt=0)
    """Of the logits; null: the masks stay."""
    mask_downscale: int = Field(4, ge=1)
    """Side, in pixels, of the square that one logit covers."""
    total_variation: float = Field(1e-3, ge=0)
    """Times the length of all edges, in sides of the image."""
    loss: ReconstructionLoss = ReconstructionLoss(dispersion_weight=10.0)
    stop: Stop = Stop()

    @model_validator(mode="after")
    def _check(self) -> JointSegments:
        if self.space is None and self.mask_lr is None:
            raise ValueError("nothing to optimise: give a space or a mask_lr")
        return self

    def __call__(self, target: Target, code: Code | None, context: Context) -> StageResult:
        if code is None or code.segments is None:
            raise ConfigError("joint-segments needs a segment stage before it, or stored codes with segments")
        variables: list[Variable] = []
        if self.space is not None:
            variables.append(SegmentLatents(self.space))
        if self.mask_lr is not None:
            variables.append(MaskLogits(self.mask_downscale, self.total_variation, self.mask_lr))
        descent = Descent(
            variables,
            Adam(),
            steps=self.steps,
            lr=self.lr,
            schedule=lambda t: ramps(t, self.lr_rampup, self.lr_rampdown),
            stop=self.stop,
        )
        return descent(target, code, self.loss.prepare(target, context), context)


@dataclass(frozen=True)
class SegmentLatents(Free):
    """The latents of all segments, [n, K, 1 or num_ws, w_dim]."""

    space: Literal["w", "w+"]

    def start(self, code: Code, ids: Sequence[str], context: Context) -> dict[str, Tensor]:
        w = code.w[:, None] + _segments(code).w
        return {"w": w if self.space == "w+" else w.mean(dim=2, keepdim=True)}

    def put(self, code: Code, values: Tensors, generator: Generator, moment: DescentStep | None) -> Code:
        return replace(code, segments=replace(_segments(code), w=values["w"] - code.w[:, None]))


@dataclass(frozen=True)
class MaskLogits(Free):
    """The masks of all segments, as logits [n, K, r, r] with r = R / ``downscale``.

    Args:
        variation: weight of the masks' total variation.
    """

    downscale: int
    variation: float
    lr: float | None = None

    def start(self, code: Code, ids: Sequence[str], context: Context) -> dict[str, Tensor]:
        segments = _segments(code)
        shares = segments.shares()[:, :, 0].expand(len(ids), -1, -1, -1)
        small = F.adaptive_avg_pool2d(shares, shares.shape[-1] // self.downscale)
        logits = (small + _SOFT).log()
        return {"logits": torch.where(segments.present()[..., None, None], logits, _EMPTY)}

    def put(self, code: Code, values: Tensors, generator: Generator, moment: DescentStep | None) -> Code:
        segments = _segments(code)
        size = segments.masks.shape[-1]
        logits = F.interpolate(values["logits"], size=(size, size), mode="bilinear", align_corners=False)
        covered = sequential_sum(segments.shares())[:, None]
        return replace(code, segments=replace(segments, masks=covered * _softmax(logits)[:, :, None]))

    def penalty(self, values: Tensors) -> Tensor | None:
        if not self.variation:
            return None
        masks = _softmax(values["logits"])
        length = masks.diff(dim=2).abs().sum(dim=(1, 2, 3)) + masks.diff(dim=3).abs().sum(dim=(1, 2, 3))
        return self.variation * length / masks.shape[-1]


_SOFT = 0.02
"""What a mask of 0 starts with, so that it can grow."""


def _softmax(logits: Tensor) -> Tensor:
    """Over dimension 1; empty segments change no bit of the others."""
    grown = (logits - logits.amax(dim=1, keepdim=True)).exp()
    return grown / sequential_sum(grown)[:, None]


def _segments(code: Code) -> Segments:
    assert code.segments is not None
    return code.segments
