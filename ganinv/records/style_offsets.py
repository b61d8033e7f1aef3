"""What edits in S added to the styles, as a column: one list of (layer, offset) per row, null if nothing was added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.editing.moves import add_styles

COLUMN = "style_offsets"
_TYPE = pa.list_(pa.struct([("layer", pa.string()), ("offset", pa.list_(pa.float32()))]))


def offsets_array(rows: Sequence[Mapping[str, Tensor]]) -> pa.Array:
    """The column of rows that each have layer name -> [1, C]."""
    values = [
        [{"layer": name, "offset": offset[0].float().numpy()} for name, offset in sorted(row.items())] or None
        for row in rows
    ]
    return pa.array(values, _TYPE)


def read_offsets(table: pa.Table, row: int) -> dict[str, Tensor]:
    """Layer name -> [1, C] of one row; empty if nothing was added, or the table has no such column."""
    if COLUMN not in table.schema.names:
        return {}
    layers = table[COLUMN][row].as_py() or []
    return {layer["layer"]: torch.tensor(layer["offset"])[None] for layer in layers}


def with_offsets(code: Code, table: pa.Table) -> Code:
    """A code of these rows with what edits added to its styles."""
    if COLUMN not in table.schema.names:
        return code
    rows = [read_offsets(table, row) for row in range(table.num_rows)]
    if not any(rows):
        return code
    joined = Code.cat([Code(code.w[i : i + 1], styles=offsets or None) for i, offsets in enumerate(rows)])
    return add_styles(code, joined.styles or {})
