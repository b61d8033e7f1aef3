"""Reading the parts of a collection: only the columns, parts and row groups that were asked for."""

from __future__ import annotations

import io
from bisect import bisect_left, bisect_right
from collections.abc import Collection as Sized
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ganinv.errors import StoreError, did_you_mean
from ganinv.store.failures import is_transient, storage_errors
from ganinv.store.objects import Objects
from ganinv.store.retrying import with_retries
from ganinv.store.tensors import as_tensors


def read_part(objects: Objects, path: str, columns: Sequence[str] | None, ids: Sized[str] | None) -> pa.Table:
    """One part as a table.

    Args:
        columns: names to read, or None for all.
        ids: image ids to keep, or None for all.
    """
    # Ranges are worth their round trips only when something can be left out.
    if columns is None and ids is None:
        return _read(io.BytesIO(objects.read(path)), objects.where(path), None, None)
    return _read_ranges(objects, path, columns, ids)


@with_retries
def _read_ranges(objects: Objects, path: str, columns: Sequence[str] | None, ids: Sized[str] | None) -> pa.Table:
    with storage_errors("read", objects.where(path)), objects.open(path) as file:
        return _read(file, objects.where(path), columns, ids)


def _read(file: Any, where: str, columns: Sequence[str] | None, ids: Sized[str] | None) -> pa.Table:
    try:
        parquet = pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True)
        if not parquet.metadata.num_rows:  # a unit that failed as a whole may not know the columns of the others
            there = [c for c in parquet.schema_arrow.names if columns is None or c in columns]
            return as_tensors(parquet.read(use_threads=False).select(there))
        wanted = _wanted(parquet.schema_arrow, columns, where)
        if ids is None:
            return as_tensors(parquet.read(columns=wanted, use_threads=False).select(wanted))
        with_id = [*wanted, *({"image_id"} - set(wanted))]
        groups = _row_groups(parquet, sorted(ids))
        table = parquet.read_row_groups(groups, columns=with_id, use_threads=False)
        keep = pc.is_in(table["image_id"], value_set=pa.array(sorted(ids), pa.string()))
        return as_tensors(table.filter(keep).select(wanted))
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError | PermissionError) or is_transient(error):
            raise
        raise StoreError(
            f"{where} is damaged ({error}). Remove this file and _manifest.json beside it, and run the step again: "
            "it computes only what is missing"
        ) from error


def _wanted(schema: pa.Schema, columns: Sequence[str] | None, where: str) -> list[str]:
    for name in columns or ():
        if name not in schema.names:
            hint = did_you_mean(name, schema.names)
            raise StoreError(f"{where} has no column {name!r}{hint}; there are: {', '.join(schema.names)}")
    return list(schema.names if columns is None else columns)


def _row_groups(parquet: pq.ParquetFile, ids: Sequence[str]) -> list[int]:
    """Row groups whose range of image_id holds one of the sorted ``ids``."""
    column = parquet.schema_arrow.names.index("image_id")
    chosen = []
    for group in range(parquet.num_row_groups):
        # Parquet counts leaf columns; tensors and lists have one leaf each, so the index of the field is the leaf's.
        statistics = parquet.metadata.row_group(group).column(column).statistics
        unknown = statistics is None or not statistics.has_min_max
        if unknown or bisect_left(ids, statistics.min) < bisect_right(ids, statistics.max):
            chosen.append(group)
    return chosen
