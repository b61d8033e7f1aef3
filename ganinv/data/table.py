"""Images in Parquet: a column of bytes, or of structs {bytes, path} as Hugging Face data sets have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ganinv.data.folder import check_unique
from ganinv.data.source import Place, SourceRef, clean_id, reading
from ganinv.errors import DataError, did_you_mean
from ganinv.store.retrying import with_retries

_USUAL_NAMES = ("image", "img", "image_bytes", "image_png", "png", "jpg", "jpeg", "bytes")
_ID_NAMES = ("image_id", "id")


def table_sources(
    place: Place, files: Sequence[str], base: str, image_column: str | None, where: Mapping[str, str]
) -> dict[str, SourceRef]:
    """One source for each row that ``where`` keeps.

    An id is the row's ``image_id`` or ``id`` as text; without such a column the row's number, after the file's name
    when there are several files.
    """
    found: list[tuple[str, SourceRef]] = []
    seen: dict[str, set[str]] = {name: set() for name in where}
    for path in files:
        uri = place.uri(path)
        with reading(uri), place.fs.open(path, "rb") as file:
            parquet = pq.ParquetFile(file, pre_buffer=False)
            schema = parquet.schema_arrow
            column = _image_column(schema, image_column, uri)
            id_column = next((name for name in _ID_NAMES if name in schema.names), None)
            wanted = dict.fromkeys([*([id_column] if id_column else []), *_known(where, schema, uri)])
            rows = parquet.read(columns=list(wanted)).to_pydict() if wanted else {}
            count = parquet.metadata.num_rows
        name = clean_id(str(PurePosixPath(path.removeprefix(base).lstrip("/")).with_suffix("")))
        for row in range(count):
            for key in where:
                seen[key].add(str(rows[key][row]))
            if all(_equal(rows[key][row], value) for key, value in where.items()):
                image_id = _row_id(rows[id_column][row] if id_column else None, id_column, row, name, len(files), uri)
                found.append((image_id, SourceRef(f"{uri}#{row}", path, row=row, column=column)))
    if where and not found:
        values = "; ".join(f"{key} has {', '.join(sorted(seen[key])[:8])}" for key in where)
        raise DataError(f"no row of {place.url} has {dict(where)}: {values}")
    check_unique((image_id for image_id, _ in found), "choose rows with where=, or give each row an id of its own")
    return dict(found)


@with_retries
def read_rows(place: Place, sources: Sequence[SourceRef]) -> list[bytes | None]:
    """The image bytes of rows of one Parquet file; None where a row has none.

    Reads a file from the start of the first row group needed to the last row needed, a few rows at a time: row groups
    of a few hundred rows are read fastest.
    """
    path, column = sources[0].path, sources[0].column
    wanted = {source.row for source in sources}
    values: dict[int, Any] = {}
    with reading(place.uri(path)), place.fs.open(path, "rb") as file:
        parquet = pq.ParquetFile(file, pre_buffer=False)
        first = 0
        for group in range(parquet.num_row_groups):
            size = parquet.metadata.row_group(group).num_rows
            left = {row for row in wanted if row is not None and first <= row < first + size}
            batches = parquet.iter_batches(batch_size=32, row_groups=[group], columns=[column]) if left else iter(())
            start = first
            for batch in batches:
                here = {row for row in left if row < start + batch.num_rows}
                values |= {row: batch.column(0)[row - start].as_py() for row in here}
                left -= here
                start += batch.num_rows
                if not left:
                    break
            first += size
    found = [values.get(source.row) if source.row is not None else None for source in sources]
    return [value.get("bytes") if isinstance(value, dict) else value for value in found]


def _image_column(schema: pa.Schema, asked: str | None, uri: str) -> str:
    possible = [field.name for field in schema if _holds_images(field.type)]
    there = f"columns that can hold images: {', '.join(possible) or 'none'}"
    if asked is not None:
        if asked not in possible:
            hint = did_you_mean(asked, possible)
            raise DataError(f"{uri} has no image column {asked!r}{hint}; {there}")
        return asked
    usual = [name for name in _USUAL_NAMES if name in possible]
    if usual or len(possible) == 1:
        return usual[0] if usual else possible[0]
    raise DataError(f"cannot tell which column of {uri} holds the images: name it with image_column=; {there}")


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_images(kind.field(index).type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _known(where: Mapping[str, str], schema: pa.Schema, uri: str) -> list[str]:
    for key in where:
        if key not in schema.names:
            hint = did_you_mean(key, schema.names)
            raise DataError(
                f"{uri} has no column {key!r} to choose rows by{hint}; there are: {', '.join(schema.names)}"
            )
    return list(where)


def _equal(value: Any, wanted: str) -> bool:
    """``wanted`` comes from a command line: ``true`` and ``1`` mean what they say in a column of their type."""
    if isinstance(value, bool):
        return str(value).lower() == wanted.lower()
    if isinstance(value, int | float):
        try:
            return float(wanted) == value
        except ValueError:
            return False
    return str(value) == wanted


def _row_id(value: Any, column: str | None, row: int, name: str, files: int, uri: str) -> str:
    if column is None:
        return f"{row:08d}" if files == 1 else f"{name}/{row:08d}"
    if value is None:
        raise DataError(
            f"row {row} of {uri} has no {column}: give every row one, or drop the column to use row numbers"
        )
    return str(value)
