"""The index of a run's images, as Parquet files: written once by the process that plans, read in small pieces by the workers.

Listing a million files takes a thousand calls, and the headers of tar shards one call per shard; if five hundred workers each
did that, it would cost more than the work itself. Images added later have an additional index.
"""

from __future__ import annotations

import io
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from threading import Lock
from typing import IO, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from ganinv.data.dataset import Dataset, LoadedBatch, Photo
from ganinv.data.listing import in_order
from ganinv.data.names import from_text, to_text
from ganinv.data.source import Place, SourceRef
from ganinv.errors import StoreError
from ganinv.store.failures import is_absent, storage_errors
from ganinv.store.objects import Objects
from ganinv.store.plan import RowError
from ganinv.store.retrying import with_retries
from ganinv.store.tensors import parquet_table

T = TypeVar("T")

GROUP = 2048
"""Rows read at once: a few units, some ten kilobytes."""
_TEXT, _NUMBERS = ("uri", "path", "column", "key", "version", "fault"), ("offset", "length", "row")
_SCHEMA = pa.schema(
    [("image_id", pa.string()), *((n, pa.string()) for n in _TEXT), *((n, pa.int64()) for n in _NUMBERS)]
)


def write_index(
    dataset: Dataset,
    objects: Objects,
    folder: str,
    ids: Iterable[str],
    instead: Mapping[str, SourceRef] | None = None,
) -> None:
    """Write an index into ``folder`` of those of ``ids`` that the existing indexes lack or place elsewhere. Existing files never
    change: of an image in several, the newest entry holds.

    Args:
        instead: sources that replace those of the data set, or that it lacks.
    """
    sources: Mapping[str, SourceRef] = dict(in_order(dataset.sources)) | dict(instead) if instead else dataset.sources
    ids = sorted(ids)
    while True:
        files = _files_after(objects, folder, 0)
        known = _newest(objects, files)
        new = ((i, source) for i, source in in_order(sources) if _has(ids, i) and known.get(i) != source)
        data = _table_bytes(new)
        if data is None:
            return
        try:
            objects.create(f"{folder}/{index_name(len(files))}", data)
        except FileExistsError:  # of a run that started at the same moment, maybe of other images
            continue
        return


def _has(ordered: Sequence[str], image_id: str) -> bool:
    """Without a set of a million ids, which would be larger than everything written about them."""
    place = bisect_left(ordered, image_id)
    return place < len(ordered) and ordered[place] == image_id


def read_index(objects: Objects, folder: str) -> dict[str, SourceRef]:
    """id -> where it is, of all images; empty without an index."""
    return _newest(objects, _files_after(objects, folder, 0))


def index_name(number: int) -> str:
    """``_sources.parquet``, ``_sources-0001.parquet``, ..."""
    return f"_sources-{number:04d}.parquet" if number else "_sources.parquet"


class SourceIndex:
    """Sources of some images at a time, from all indexes of a folder. Used by several threads.

    Args:
        place: of the data set.
        objects, folder: where :func:`write_index` wrote them. Without any, the index is false, and loads nothing.
    """

    def __init__(self, place: Place, objects: Objects, folder: str) -> None:
        self.place, self._objects, self._folder = place, objects, folder
        self._files = _files_after(objects, folder, 0)
        self._group, self._lock = lru_cache(maxsize=16)(self._read_group), Lock()

    def __bool__(self) -> bool:
        return bool(self._files)

    def load(self, ids: Sequence[str], resolution: int, *, nearest: bool = False) -> LoadedBatch:
        """As ``Dataset.load``. An image that no index has disappeared before it was listed: an error, as for a missing file."""
        some = self.dataset(ids)
        loaded = some.load([i for i in ids if i in some.sources], resolution, nearest=nearest)
        return replace(loaded, errors=[*loaded.errors, *self._gone(ids, some)])

    def photos(self, ids: Sequence[str]) -> Iterator[Photo | RowError]:
        """As ``Dataset.photos``, with such errors at the end."""
        some = self.dataset(ids)
        yield from some.photos([i for i in ids if i in some.sources])
        yield from self._gone(ids, some)

    def _gone(self, ids: Sequence[str], some: Dataset) -> list[RowError]:
        return [RowError(i, "missing", f"not in {self.place.url} any more") for i in ids if i not in some.sources]

    def dataset(self, ids: Sequence[str]) -> Dataset:
        """The data set with those of these images alone that an index has.

        Raises:
            StoreError: there is no index.
        """
        found = self._find(ids)
        if len(found) < len(set(ids)) and self._look_again():
            found = self._find(ids)
        if not self._files:
            raise StoreError(
                f"{self._objects.where(self._folder)} does not say where its images are ({index_name(0)} is not there): "
                "run the step that made it again, which writes it"
            )
        return Dataset(self.place, {image_id: found[image_id] for image_id in sorted(found)})

    @property
    def count(self) -> int:
        """How many images all indexes have."""
        return sum(file.metadata.num_rows for file in self._files)

    def ids_at(self, positions: Sequence[int]) -> list[str]:
        """The ids at some positions of all indexes one after the other, each sorted by id."""
        return [self._id_at(position) for position in positions]

    def _id_at(self, position: int) -> str:
        for file in self._files:
            for group in range(file.metadata.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if position < rows:
                    return next(islice(self._group(file, group), position, None))
                position -= rows
        raise IndexError(f"the index of {self.place.url} has {self.count} images")

    def _find(self, ids: Iterable[str]) -> dict[str, SourceRef]:
        found: dict[str, SourceRef] = {}
        left = set(ids)
        # The newest first: they are small, and images of one unit lie together in their own index, but far apart in others.
        for file in reversed(self._files):
            for image_id in sorted(left):
                group = bisect_left(file.last, image_id)
                if group < len(file.last) and file.first[group] <= image_id:
                    source = self._group(file, group).get(image_id)
                    if source is not None:
                        found[image_id] = source
            left -= found.keys()
        return found

    def _look_again(self) -> bool:
        """Whether another run has written more since."""
        with self._lock:
            more = _files_after(self._objects, self._folder, len(self._files))
            self._files = [*self._files, *more]
        return bool(more)

    def _read_group(self, file: _File, group: int) -> dict[str, SourceRef]:
        def read(opened: IO[bytes]) -> pa.Table:
            return pq.ParquetFile(opened, metadata=file.metadata).read_row_group(group, use_threads=False)

        return _sources_of(_opened(self._objects, file.path, read))


@dataclass(frozen=True, eq=False)
class _File:
    """One index. ``first`` and ``last``: ids of each of its row groups."""

    path: str
    metadata: pq.FileMetaData
    first: list[str]
    last: list[str]


def _files_after(objects: Objects, folder: str, count: int) -> list[_File]:
    """The indexes of a folder but for the first ``count``: one request more than there are."""
    files: list[_File] = []
    while True:
        path = f"{folder}/{index_name(count + len(files))}"
        try:
            metadata = _opened(objects, path, pq.read_metadata)
        except StoreError as error:
            if is_absent(error):
                return files
            raise
        column = metadata.schema.names.index("image_id")
        groups = [metadata.row_group(g).column(column).statistics for g in range(metadata.num_row_groups)]
        files.append(_File(path, metadata, [group.min for group in groups], [group.max for group in groups]))


def _newest(objects: Objects, files: Sequence[_File]) -> dict[str, SourceRef]:
    """The newest last: of two images that were in one place the later one is there."""
    found: dict[str, SourceRef] = {}
    for file in files:
        sources = _sources_of(_opened(objects, file.path, parquet_table))
        for image_id in sources.keys() & found.keys():
            del found[image_id]
        found |= sources
    return found


def _sources_of(table: pa.Table) -> dict[str, SourceRef]:
    """Rows as sources. Indexes of older versions have fewer columns."""
    columns = {name: table[name].to_pylist() for name in (*_TEXT, *_NUMBERS) if name in table.schema.names}
    columns["path"] = [from_text(path) for path in columns["path"]]
    rows = zip(*columns.values(), strict=True)
    return {
        i: SourceRef(**dict(zip(columns, row, strict=True)))
        for i, row in zip(table["image_id"].to_pylist(), rows, strict=True)
    }


@with_retries
def _opened(objects: Objects, path: str, read: Callable[[Any], T]) -> T:
    with storage_errors("read", objects.where(path)), objects.open(path) as file:
        return read(file)


def _table_bytes(rows: Iterable[tuple[str, SourceRef]]) -> bytes | None:
    """Ids in order, with their sources, as Parquet; None if there is none."""
    rows, sink, writer = iter(rows), io.BytesIO(), None
    while group := list(islice(rows, GROUP)):
        columns = {name: [getattr(source, name) for _, source in group] for name in (*_TEXT, *_NUMBERS)}
        columns["path"] = [to_text(path) for path in columns["path"]]
        if writer is None:
            writer = pq.ParquetWriter(sink, _SCHEMA, compression="zstd", write_statistics=["image_id"])
        writer.write_table(pa.table({"image_id": [image_id for image_id, _ in group], **columns}, _SCHEMA))
    if writer is None:
        return None
    writer.close()
    return sink.getvalue()
