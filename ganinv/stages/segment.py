"""Segments: one latent for each region of an image (ChunkyGAN, Subrtova et al. 2022).

Each segment is a problem of its own: the rendering of its latent is laid over the image where its mask, a little dilated,
shows it, and compared with the image as a whole. So the descent of ``optimize`` does it, with a lane per segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from ganinv.codes.code import Code, Segments
from ganinv.codes.segments import sequential_sum
from ganinv.config import StrictModel
from ganinv.errors import ConfigError
from ganinv.generators.stylegan2 import Generator
from ganinv.stages.base import Context, StageResult
from ganinv.stages.batches import batches
from ganinv.stages.objective import ReconstructionLoss
from ganinv.stages.optimize import Optimize
from ganinv.stages.segment_masks import MaskSource, dilate
from ganinv.target import Target

_COVERED = 1 - 1 / 512
"""Masks that sum to more leave no pixel of the photo that 8 bits could show."""

_WORST_LAST = ("threshold", "plateau", "cap", "not_finite")


class Segment(StrictModel):
    """Optimise a latent for each segment of each image.

    The result's ``w`` is the mean of an image's latents by area, and ``Code.segments`` has the latents, the masks (times
    those of the target) and, where they do not cover the image, the photo. An image without any segment is inverted as
    one. A stage after it that moves ``w``, or tunes weights, does so for all segments.
    """

    iterative: ClassVar[bool] = True

    kind: Literal["segment"] = "segment"
    masks: MaskSource = MaskSource(segmenter="aligned-face")
    dilation: int = Field(7, ge=1)
    """Side of the box, in pixels, by which masks are dilated in the loss: what lies beside a segment is rendered too."""
    optimize: Optimize = Optimize(
        space="w+", steps=150, latent_noise=0.0, loss=ReconstructionLoss(mse_weight=0.0, dispersion_weight=10.0)
    )
    """How each is optimised; the published code gives W, W+ and S. Batches count segments, not images."""

    @field_validator("dilation")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("a box of even size has no middle; use an odd dilation (1 dilates nothing)")
        return value

    @field_validator("optimize")
    @classmethod
    def _latent_only(cls, value: Optimize) -> Optimize:
        if value.space is None or value.noise_maps is not None or value.features:
            raise ValueError(
                "segments have a latent each and nothing else: give a space, no noise_maps and no features"
            )
        if value.space == "s" and value.loss.dispersion_weight:
            raise ValueError("dispersion is that of w, which space: s does not move; set loss.dispersion_weight: 0")
        return value

    def __call__(self, target: Target, code: Code | None, context: Context) -> StageResult:
        names, masks, present = self._masks(target)
        pairs: list[list[int]] = present.nonzero().tolist()
        images, numbers = [i for i, _ in pairs], [k for _, k in pairs]
        lanes = Target(
            target.images[images],
            [f"{target.ids[i]}#{names[k]}" for i, k in pairs],
            dilate(masks[images, numbers], self.dilation),
            classes=None if target.classes is None else target.classes[images],
        )
        result = self.optimize(lanes, self._start(code, pairs, names), context)
        found = self._segments(
            result.code, Segments(masks, _room(masks, context.generator), names=names), pairs, context
        )
        w, segments = found.centred()
        if bool((sequential_sum(segments.shares()) < _COVERED).any()):
            segments = replace(segments, background=target.images)
        base = Code(w) if code is None or self.optimize.start != "code" else replace(code, w=w, z=None)
        if self.optimize.space == "s":
            base = replace(base, style_values=None)
        return _by_image(result, replace(base, segments=segments), images)

    def _masks(self, target: Target) -> tuple[tuple[str, ...], Tensor, Tensor]:
        """Names, masks [B, K, 1, R, R], and which of them are not empty [B, K]: at least one of each image."""
        found = self.masks.of(target)
        shown = torch.ones_like(target.images[:, :1]) if target.masks is None else target.masks
        masks = torch.stack(list(found.values()), dim=1) * shown[:, None]
        none = ~masks.flatten(1).any(dim=1)
        masks[none, 0] = shown[none]
        present = masks.flatten(2).any(dim=2)
        present[none, 0] = True
        return tuple(found), masks, present

    def _start(self, code: Code | None, pairs: Sequence[Sequence[int]], names: Sequence[str]) -> Code | None:
        if self.optimize.start != "code":
            return None
        if code is None:
            raise ValueError(
                "segment with optimize.start: code needs a stage before it that makes one, or stored codes"
            )
        if self.optimize.space == "s" and (code.weights or code.scales):
            raise ConfigError("segments in S are offsets to the generator's own styles; these codes have tuned weights")
        known = code.segments.names if code.segments else ()
        return Code.cat(
            [code[i].segment(names[k]) if names[k] in known else replace(code[i], segments=None) for i, k in pairs]
        )

    def _segments(self, code: Code, room: Segments, pairs: Sequence[Sequence[int]], context: Context) -> Segments:
        """Segments with the optimised latents, of lanes [n], in their places."""
        at = tuple(torch.tensor(pairs, device=code.w.device).T)
        w = room.w.index_put(at, code.w)
        if self.optimize.space != "s":
            return replace(room, w=w)
        generator, styles = context.generator, {}
        parts = [
            [style[:real] for style in generator.styles(code.w[index])]
            for index, real in batches(len(pairs), context.lanes)
        ]
        for name, own in zip(generator.style_names, map(torch.cat, zip(*parts, strict=True)), strict=True):
            value = (code.style_values or {})[name]
            assert isinstance(value, Tensor)
            styles[name] = own.new_zeros(*room.w.shape[:2], own.shape[1]).index_put(at, value - own)
        return replace(room, w=w, styles=styles)


def _room(masks: Tensor, generator: Generator) -> Tensor:
    return masks.new_zeros(*masks.shape[:2], generator.num_ws, generator.w_dim)


def _by_image(result: StageResult, code: Code, images: Sequence[int]) -> StageResult:
    """The result of an image from those of its segments: curves are added up, the one that stopped last gives the steps."""
    own: list[list[int]] = [[] for _ in range(len(code))]
    for lane, image in enumerate(images):
        own[image].append(lane)
    curves = [_added([result.loss[lane] for lane in lanes]) for lanes in own]
    steps = [max(result.steps[lane] for lane in lanes) for lanes in own]
    reasons = [max((result.stop_reason[lane] for lane in lanes), key=_WORST_LAST.index) for lanes in own]
    return StageResult(code, curves, steps, reasons)


def _added(curves: Sequence[list[float]]) -> list[float]:
    """The sum of loss curves; one that has ended counts on with its last value."""
    length = max(map(len, curves))
    return [sum(curve[min(t, len(curve) - 1)] for curve in curves if curve) for t in range(length)]
