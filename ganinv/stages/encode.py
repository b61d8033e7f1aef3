"""Encode: a trained encoder, or a published one by its file (pSp, e4e, ReStyle, HFGI, In-Domain)."""

from __future__ import annotations

from typing import Literal

from ganinv.codes.code import Code
from ganinv.config import StrictModel
from ganinv.stages.base import Context, StageResult
from ganinv.stages.batches import batches
from ganinv.target import Target


class Encode(StrictModel):
    """Start from an encoder's code."""

    kind: Literal["encode"] = "encode"
    encoder: str = "e4e"
    """An encoder's name (``e4e``: the one trained for this generator), a folder, or a published checkpoint."""

    def __call__(self, target: Target, code: Code | None, context: Context) -> StageResult:
        count = len(target)
        parts = [
            context.encode(self.encoder, target.images[index])[:real] for index, real in batches(count, context.lanes)
        ]
        encoded = Code.cat(parts)
        return StageResult(encoded, [[] for _ in range(count)], [1] * count, ["single pass"] * count)
