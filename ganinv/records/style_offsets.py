"""What edits in S added to the styles, as a column: one list of (layer, offset) per row, null if nothing was added."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.editing.moves import add_styles

COLUMN = "style_offsets"
TYPE = pa.list_(pa.struct([("layer", pa.string()), ("offset", pa.list_(pa.float32()))]))
"""Layers in the order of their names."""


def offsets_array(rows: Sequence[Mapping[str, Tensor]]) -> pa.Array:
    """The column of rows that each have layer name -> [1, C]."""
    return pa.array([as_layers(row) or None for row in rows], TYPE)


def as_layers(offsets: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """A value of :data:`TYPE` of layer name -> [1, C]."""
    return [{"layer": name, "offset": offset[0].float().numpy()} for name, offset in sorted(offsets.items())]


def from_layers(layers: Iterable[Mapping[str, Any]]) -> dict[str, Tensor]:
    """The inverse of :func:`as_layers`, of a value that was read."""
    return {layer["layer"]: torch.tensor(layer["offset"])[None] for layer in layers}


def read_offsets(table: pa.Table, row: int) -> dict[str, Tensor]:
    """Layer name -> [1, C] of one row; empty if nothing was added, or the table has no such column."""
    if COLUMN not in table.schema.names:
        return {}
    return from_layers(table[COLUMN][row].as_py() or [])


def with_offsets(code: Code, table: pa.Table) -> Code:
    """A code of these rows with what edits added to its styles."""
    if COLUMN not in table.schema.names:
        return code
    rows = [read_offsets(table, row) for row in range(table.num_rows)]
    if not any(rows):
        return code
    joined = Code.cat([Code(code.w[i : i + 1], styles=offsets or None) for i, offsets in enumerate(rows)])
    return add_styles(code, joined.styles or {})
