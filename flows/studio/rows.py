"""The rows of a collection as people look at them: conditions on any column, and an order."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ganinv.errors import ConfigError, did_you_mean

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<=": pc.less_equal,
    ">=": pc.greater_equal,
    "!=": pc.not_equal,
    "==": pc.equal,
    "=": pc.equal,
    "<": pc.less,
    ">": pc.greater,
}
_CONDITION = re.compile(r"(.+?)\s*(<=|>=|!=|==|=|<|>|~)\s*(.+)", re.DOTALL)
_AND = re.compile(r"\s+and\s+|,", re.IGNORECASE)
HOW = "write conditions as mse < 0.01 and stop_reason = plateau; ~ finds a part of a text: image_id ~ anna"


def scalar_columns(schema: pa.Schema) -> list[str]:
    """Columns of one number, text or truth value a row, except those that hold locations."""
    hidden = {"source_uri", "extras_uri", "extras_sha256", "source_sha256"}
    plain = (pa.types.is_integer, pa.types.is_floating, pa.types.is_string, pa.types.is_boolean)
    return [f.name for f in schema if f.name not in hidden and any(is_one(f.type) for is_one in plain)]


def filtered(table: pa.Table, conditions: str) -> pa.Table:
    """The rows that meet all conditions, such as ``mse < 0.01 and image_id ~ anna``; all, if there is none.

    A row without a value in a column meets no condition on it.

    Raises:
        ConfigError: a condition that cannot be read, an unknown column, or text where a number is expected.
    """
    for text in filter(None, (part.strip() for part in _AND.split(conditions))):
        found = _CONDITION.fullmatch(text)
        if found is None:
            raise ConfigError(f"{text!r} is not a condition: {HOW}")
        name, operator, value = found[1].strip(), found[2], found[3].strip().strip("'\"")
        column = _column(table, name)
        if operator == "~":
            meets = pc.match_substring(pc.cast(column, pa.string()), value, ignore_case=True)
        else:
            meets = _COMPARE[operator](column, _as(column.type, name, value))
        table = table.filter(meets)
    return table


def ordered(table: pa.Table, column: str, descending: bool = False) -> pa.Table:
    """The rows by a column, then by ``image_id``; those without a value last.

    Raises:
        ConfigError: an unknown column.
    """
    _column(table, column)
    keys = [(column, "descending" if descending else "ascending")]
    if column != "image_id":
        keys.append(("image_id", "ascending"))
    return table.take(pc.sort_indices(table, sort_keys=keys))


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.schema.names:
        hint = did_you_mean(name, table.schema.names)
        raise ConfigError(f"there is no column {name!r}{hint}; there are: {', '.join(table.schema.names)}")
    return table[name]


def _as(kind: pa.DataType, name: str, value: str) -> Any:
    if pa.types.is_string(kind):
        return value
    if pa.types.is_boolean(kind):
        return value.lower() in ("true", "yes", "1")
    try:
        return float(value)
    except ValueError:
        raise ConfigError(f"column {name!r} has numbers, got {value!r}: {HOW}") from None
