"""Mix: rows of W+ from random latents, so that one input has several outputs (pSp, Richardson et al. 2021, section 4.3: a sketch
or a label map says where things are, and not which colours they have)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator

from ganinv.codes.code import Code
from ganinv.config import StrictModel
from ganinv.errors import ConfigError
from ganinv.stages.base import Context, StageResult
from ganinv.stages.batches import batches
from ganinv.target import Target


class Mix(StrictModel):
    """Rows of the code so far become those of a random latent, or go part of the way.

    The latent of an image is drawn from its own stream, so it is the same in every batch; another ``seed`` of the run draws
    another, under another name. The published code draws anew, and renders with random noise.
    """

    iterative: ClassVar[bool] = False

    kind: Literal["mix"] = "mix"
    rows: tuple[int, ...] = Field((), min_length=1)
    """Which rows. Published for sketches and label maps at 1024 pixels: 8 to 17."""
    alpha: float = Field(1.0, ge=0, le=1)
    """How far they go to the random latent."""
    inject: Literal["random", "mean"] = "random"
    """What they go to: a mapped random latent of the image, or the mean of W."""
    psi: float = Field(1.0, gt=0, le=1)
    """Truncation of the random latent."""

    @field_validator("rows")
    @classmethod
    def _rows(cls, rows: tuple[int, ...]) -> tuple[int, ...]:
        if min(rows, default=0) < 0 or len(set(rows)) != len(rows):
            raise ValueError(f"rows must be different and not negative, got {list(rows)}")
        return rows

    def __call__(self, target: Target, code: Code | None, context: Context) -> StageResult:
        generator = context.generator
        if code is None:
            raise ConfigError("a mix stage changes codes, and there are none: put an encode stage before it")
        if max(self.rows) >= generator.num_ws:
            raise ConfigError(
                f"a mix stage has row {max(self.rows)}, and generator {generator.name!r} has rows 0 to {generator.num_ws - 1}"
            )
        if self.inject == "mean":
            other = context.mean_w(target)
        else:
            streams = [context.stream(image_id, "mix") for image_id in target.ids]
            z = torch.stack([torch.randn(generator.z_dim, generator=rng) for rng in streams]).to(code.w)
            with torch.no_grad():
                some = batches(len(target), context.lanes)
                other = torch.cat([generator.map_all(z[i], truncation_psi=self.psi)[:real, :1] for i, real in some])
        w, rows = code.w.clone(), list(self.rows)
        w[:, rows] = torch.lerp(w[:, rows], other.expand_as(w[:, rows]), self.alpha)
        count = len(target)
        return StageResult(code.with_w(w), [[] for _ in range(count)], [0] * count, ["single pass"] * count)
