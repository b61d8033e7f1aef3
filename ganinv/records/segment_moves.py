"""What edits of one segment moved, as a column: its latent and its styles, null if the whole image was edited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.records import style_offsets

COLUMN = "segment_move"
_TYPE = pa.struct([("segment", pa.string()), ("w", pa.list_(pa.float32())), ("styles", style_offsets.TYPE)])


@dataclass(frozen=True)
class SegmentMove:
    """A step of one segment.

    Args:
        w: [1, num_ws, w_dim], added to its latent. styles: layer name -> [1, C], added to its styles.
    """

    segment: str
    w: Tensor
    styles: Mapping[str, Tensor] = field(default_factory=dict)

    def on(self, code: Code) -> Code:
        """The code after this step; one without such a segment stays what it is."""
        segments = code.segments
        if segments is None or self.segment not in segments.names:
            return code
        return replace(code, segments=segments.moved(self.segment, self.w, self.styles))


def moves_array(moves: Sequence[SegmentMove | None]) -> pa.Array:
    """The column."""
    return pa.array([None if move is None else _record(move) for move in moves], _TYPE)


def with_moves(code: Code, table: pa.Table) -> Code:
    """A code of these rows after what edits moved in their segments."""
    if COLUMN not in table.schema.names or table[COLUMN].null_count == table.num_rows:
        return code
    given = table[COLUMN].to_pylist()
    shape = (1, *code.w.shape[1:])
    return Code.cat([code[i] if row is None else _move(row, shape).on(code[i]) for i, row in enumerate(given)])


def _record(move: SegmentMove) -> dict[str, Any]:
    styles = style_offsets.as_layers(move.styles)
    return {"segment": move.segment, "w": move.w.flatten().float().numpy(), "styles": styles}


def _move(row: Mapping[str, Any], shape: tuple[int, ...]) -> SegmentMove:
    w = torch.tensor(row["w"]).reshape(shape)
    return SegmentMove(row["segment"], w, style_offsets.from_layers(row["styles"]))
