"""Encode: one pass of a trained encoder (e4e, Tov et al. 2021)."""

from __future__ import annotations

from typing import Literal

import torch

from ganinv.code import Code
from ganinv.config import StrictModel
from ganinv.stages.base import Context, StageResult
from ganinv.target import Target


class Encode(StrictModel):
    """Start from an encoder's code."""

    kind: Literal["encode"] = "encode"
    encoder: str = "e4e"
    """An encoder's name (``e4e``: the one trained for this generator) or a folder."""

    def __call__(self, target: Target, code: Code | None, context: Context) -> StageResult:
        encoder = context.open_encoder(self.encoder)
        with torch.no_grad():
            encoded = encoder(target.images)
        count = len(target)
        return StageResult(encoded, [[] for _ in range(count)], [1] * count, ["single pass"] * count)
