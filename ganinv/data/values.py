"""Columns beside the images of a Parquet data set, by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq

from ganinv.config import did_you_mean
from ganinv.data.source import Place, SourceRef, reading
from ganinv.errors import DataError


def read_values(place: Place, sources: Mapping[str, SourceRef], column: str) -> dict[str, Any]:
    """Image id -> what its row has in ``column``; absent where the image is in no table.

    Raises:
        DataError: a table without such a column.
    """
    by_file: dict[str, list[str]] = {}
    for image_id, source in sources.items():
        if source.row is not None:
            by_file.setdefault(source.path, []).append(image_id)
    found: dict[str, Any] = {}
    for path, ids in by_file.items():
        with reading(place.uri(path)), place.fs.open(path, "rb") as file:
            parquet = pq.ParquetFile(file)
            names = parquet.schema_arrow.names
            if column not in names:
                hint = did_you_mean(column, names)
                raise DataError(f"{place.uri(path)} has no column {column!r}{hint}; there are: {', '.join(names)}")
            values = parquet.read(columns=[column], use_threads=False)[column]
        found |= {image_id: values[sources[image_id].row].as_py() for image_id in ids}
    return found


def class_numbers(values: Mapping[str, Any], ids: Sequence[str], classes: int) -> dict[str, int]:
    """Image id -> class, of those that have one of 0 to ``classes`` - 1: a whole number, or one-hot."""
    found = {}
    for image_id in ids:
        value = values.get(image_id)
        if isinstance(value, list) and len(value) == classes and sum(bool(v) for v in value) == 1:
            value = next(k for k, v in enumerate(value) if v)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < classes:
            found[image_id] = value
    return found
