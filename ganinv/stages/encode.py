"""Encode: a trained inverter, or a published one by its file."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field

from ganinv.codes.code import Code
from ganinv.config import StrictModel
from ganinv.errors import ConfigError
from ganinv.stages.base import Context, InverterName, StageResult
from ganinv.stages.batches import batches
from ganinv.target import Target


class Encode(StrictModel):
    """An inverter's code: from the images alone, or from the code so far (``start: code``), as HyperStyle's
    hypernetwork and HFGI's consultation do."""

    iterative: ClassVar[bool] = False

    kind: Literal["encode"] = "encode"
    encoder: InverterName = "e4e"
    start: Literal["none", "code"] = "none"
    steps: int | None = Field(None, ge=1)
    """Number of passes, for an inverter that refines; by default as it was trained."""
    keep_passes: bool = False
    """Also store w after each pass, in the column ``w_passes`` of the latents."""

    def __call__(self, target: Target, code: Code | None, context: Context) -> StageResult:
        if self.start == "code" and code is None:
            raise ConfigError(
                "this encode stage continues from codes (start: code), and there are none: put a stage before it, or give "
                "stored ones with --from"
            )
        photos = target.images if target.photos is None else target.photos
        parts, passes = [], []
        for index, real in batches(len(target), context.lanes):
            start = code[index] if self.start == "code" and code is not None else None
            holes = None if target.masks is None else 1 - target.masks[index]
            if self.keep_passes:
                found, each = context.encode_passes(self.encoder, photos[index], start, self.steps, holes)
                passes.append(each[:real])
            else:
                found = context.encode(self.encoder, photos[index], start, self.steps, holes)
            parts.append(found[:real])
        count = len(target)
        return StageResult(
            Code.cat(parts),
            [[] for _ in range(count)],
            [self.steps or 1] * count,
            ["single pass"] * count,
            torch.cat(passes) if passes else None,
        )
