"""Images in Parquet: a column of bytes, of structs {bytes, path} as Hugging Face data sets have them, or of base64."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ganinv.data.columns import NoImages, Sample, has_equal, image_bytes, image_column
from ganinv.data.decode import ImageRefused
from ganinv.data.identity import file_key, row_key
from ganinv.data.left_out import LeftOut
from ganinv.data.names import clean_id
from ganinv.data.source import Place, SourceRef, reading
from ganinv.data.walk import Listed
from ganinv.errors import DataError, Unavailable, did_you_mean
from ganinv.store.retrying import with_retries

ID_NAMES = ("face_id", "image_id", "id")
"""The first is of aligned faces (``ganinv align``), of which a photo may have several."""
BY_ROW = "none"
"""As an id column: no column, ids are made of the file's name and the row's number."""
AT_ONCE = 1024
"""Ids that are Python strings at once."""
_AGAIN = "copy it again"


@dataclass(frozen=True)
class Wanted:
    """What of the tables is asked for.

    Args:
        image_column, id_column: by name; None for those with usual names.
        where: column -> value that a row must have.
    """

    image_column: str | None = None
    id_column: str | None = None
    where: Mapping[str, str] = field(default_factory=dict)


def table_sources(
    place: Place, files: Mapping[str, Listed], tables: Sequence[str], base: str, wanted: Wanted, left: LeftOut
) -> Iterator[SourceRef]:
    """One source for each row that ``where`` keeps, and one with a ``fault`` for each file that cannot be read.

    Raises:
        DataError: no file has what is asked for; or rows that cannot be distinguished.
    """
    refusals: list[DataError] = []
    seen: dict[str, set[str]] = defaultdict(set)
    some = faults = False
    for path, uri in zip(tables, place.uris(tables), strict=True):
        listed, key = files[path], file_key(path, base)
        try:
            count, rows = _rows(place, path, uri, key, listed, wanted, seen)
        except Unavailable:
            raise
        except _Unreadable as error:
            fault = str(error)
        except DataError as error:
            refusals.append(error)
            fault = str(error)
        else:
            if not count and not wanted.where:
                left.add(".parquet", "they have no row", clean_id(path))
            some = some or count > 0
            yield from rows
            continue
        faults = True
        yield SourceRef(uri, path, length=listed.size, key=key, version=listed.version, fault=clean_id(fault))
    if refusals and not some:
        raise refusals[0]
    if wanted.where and not some and not faults:
        told = "; ".join(f"{key} has {', '.join(sorted(seen[key])[:8])}" for key in wanted.where)
        raise DataError(f"no row of {place.url} has {dict(wanted.where)}: {told}")


class _Unreadable(DataError):
    """A file that is not a whole Parquet file."""


def _rows(
    place: Place,
    path: str,
    uri: str,
    key: str,
    listed: Listed,
    wanted: Wanted,
    seen: dict[str, set[str]],
) -> tuple[int, Iterator[SourceRef]]:
    """How many rows a file has of what is wanted, and a source for each. All errors come at once, none while these are made."""
    if not listed.size:
        raise _Unreadable(f"the Parquet file has no bytes: {_AGAIN}")
    try:
        with reading(uri), place.fs.open(path, "rb") as file:
            parquet = pq.ParquetFile(file, pre_buffer=False)
            schema = parquet.schema_arrow
            count = parquet.metadata.num_rows
            column = image_column(schema, wanted.image_column, uri, _sample(parquet))
            id_column = _id_column(schema, wanted.id_column, uri)
            needed = dict.fromkeys([*([id_column] if id_column else []), *_known(wanted.where, schema, uri)])
            rows = parquet.read(columns=list(needed), use_threads=False)
            rows.validate(full=True)  # text that is none
    except Unavailable:
        raise
    except DataError as error:
        if error.__cause__ is None:
            raise
        raise _Unreadable(f"not a whole Parquet file ({error.__cause__}): {_AGAIN}") from error
    kept: Sequence[int] = range(count)
    for name, value in wanted.where.items():
        values = rows[name].to_pylist()
        seen[name].update(map(str, values))
        kept = [row for row in kept if _equal(values[row], value)]
    ids = _ids(rows[id_column], kept, id_column, uri) if id_column else repeat(None, len(kept))

    def source(row: int, name: str | None) -> SourceRef:
        return SourceRef(f"{uri}#{row}", path, None, None, row, column, row_key(key, row, name), listed.version)

    return len(kept), map(source, kept, ids)


def _ids(values: pa.ChunkedArray, kept: Sequence[int], column: str, uri: str) -> Iterable[str | None]:
    """The ids of the rows that are kept; a :class:`DataError` where rows of one file cannot be distinguished."""
    text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    if text and len(kept) == len(values) and not values.null_count and not has_equal(values.sort()):
        few = pa.table({column: values}).to_batches(AT_ONCE)
        return chain.from_iterable(batch.column(0).to_pylist() for batch in few)
    advice = f"name a column of unique ids with --id-column, or --id-column {BY_ROW} to number the rows"
    ids: dict[int, str | None] = {}
    for row in kept:
        value = values[row].as_py()
        if value is None:
            raise DataError(f"row {row} of {uri} has no {column}: give every row one, or {advice}")
        ids[row] = _as_id(value)
    twice = sorted(value for value, count in Counter(ids.values()).items() if count > 1 and value is not None)
    if twice:
        raise DataError(
            f"{len(twice)} ids in the column {column!r} of {uri} come more than once, such as {twice[0]!r}: choose rows with "
            f"--where, or {advice}"
        )
    return list(ids.values())


def _as_id(value: Any) -> str:
    return clean_id(value.decode("utf-8", "surrogateescape")) if isinstance(value, bytes) else str(value)


def _id_column(schema: pa.Schema, asked: str | None, uri: str) -> str | None:
    if asked is None:
        return next((name for name in ID_NAMES if name in schema.names), None)
    if asked not in schema.names and asked != BY_ROW:
        hint = did_you_mean(asked, schema.names)
        raise DataError(f"{uri} has no column {asked!r} for --id-column{hint}; there are: {', '.join(schema.names)}")
    return asked if asked in schema.names else None


def _sample(parquet: pq.ParquetFile) -> Sample:
    def values(column: str) -> list[Any]:
        found: list[Any] = []
        if not parquet.metadata.num_rows:
            return found
        for batch in parquet.iter_batches(batch_size=16, columns=[column], use_threads=False):
            found += [value for value in batch.column(0).to_pylist() if value is not None]
            if len(found) >= 4:
                break
        return found[:4]

    return values


def without_images(place: Place, path: str) -> bool:
    """Whether a Parquet file is a table *about* images, such as img2dataset writes beside its shards."""
    try:
        with reading(place.uri(path)), place.fs.open(path, "rb") as file:
            parquet = pq.ParquetFile(file, pre_buffer=False)
            image_column(parquet.schema_arrow, None, path, _sample(parquet))
    except NoImages:
        return True
    except Unavailable:
        raise
    except DataError:
        return False
    return False


@with_retries
def read_rows(place: Place, sources: Sequence[SourceRef]) -> list[bytes | ImageRefused]:
    """The image bytes of rows of one Parquet file, or why a row has none.

    Reads a file from the start of the first row group needed to the last row needed, a few rows at a time: row groups
    of a few hundred rows are read fastest. Where a part of the file is damaged the rows in it are refused, not the others.
    """
    path, column, uri = sources[0].path, sources[0].column, place.uri(sources[0].path)
    wanted = {source.row for source in sources if source.row is not None}
    values: dict[int, Any] = {}
    try:
        with reading(uri), place.fs.open(path, "rb") as file:
            parquet = pq.ParquetFile(file, pre_buffer=False)
            first = 0
            for group in range(parquet.num_row_groups):
                size = parquet.metadata.row_group(group).num_rows
                _read_group(
                    parquet, group, column, first, {r for r in wanted if first <= r < first + size}, values, uri
                )
                first += size
    except Unavailable:
        raise
    except DataError as error:
        refused = ImageRefused("shard", f"the Parquet file cannot be read ({error.__cause__ or error}): {_AGAIN}")
        values |= {row: refused for row in wanted if row not in values}
    return [_checked(values.get(source.row) if source.row is not None else None) for source in sources]


def _read_group(
    parquet: pq.ParquetFile,
    group: int,
    column: str | None,
    first: int,
    left: set[int],
    values: dict[int, Any],
    uri: str,
) -> None:
    start = first
    try:
        with reading(uri):
            some = {"batch_size": 32, "row_groups": [group], "columns": [column]}
            for batch in parquet.iter_batches(**some, use_threads=False) if left else iter(()):
                here = {row for row in left if row < start + batch.num_rows}
                values |= {row: batch.column(0)[row - start].as_py() for row in here}
                left -= here
                start += batch.num_rows
                if not left:
                    return
    except Unavailable:
        raise
    except DataError as error:
        refused = ImageRefused("shard", f"its row group is damaged ({error.__cause__ or error}): {_AGAIN}")
        values |= dict.fromkeys(left, refused)


def _checked(value: Any) -> bytes | ImageRefused:
    if isinstance(value, ImageRefused):
        return value
    data = image_bytes(value)
    if data is None:
        return ImageRefused("missing", "the row has no image bytes")
    return ImageRefused("missing", data) if isinstance(data, str) else data


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
