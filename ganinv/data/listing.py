"""A listing as columns: a driver holds millions of images, and Python objects take half a kilobyte for each."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ganinv.data.columns import has_equal
from ganinv.data.identity import BETWEEN, names_of
from ganinv.data.source import SourceRef

CHUNK = 1024
"""Images whose names become Python strings at once."""
_COLUMNS = ("file", "row", "offset", "length", "uri", "key")
"""``file``: number among the files. ``uri``, ``key``: what comes after those of the file; no uri where that is the row's
number."""


class Packed(Sequence[SourceRef]):
    """Sources in the order of the listing. Of an image in a shard is kept what tells it from the others in there, some 40 bytes;
    of one in a file of its own the source as it is."""

    def __init__(self, sources: Iterable[SourceRef]) -> None:
        self._files: list[SourceRef] = []  # of a shard: what the sources in it have in common
        self._batches: list[pa.RecordBatch] = []
        rest = iter(sources)
        while some := [self._row(source) for source in islice(rest, CHUNK)]:
            # A column that nothing is in becomes one of Arrow's null type, which takes no room.
            self._batches.append(pa.record_batch([pa.array(column) for column in zip(*some, strict=True)], _COLUMNS))
        self._count = sum(batch.num_rows for batch in self._batches)

    def _row(self, source: SourceRef) -> tuple[Any, ...]:
        alone = source.row is None and source.offset is None
        if alone or not self._files or not _lies_in(source, self._files[-1]):
            self._files.append(source if alone else _shard_of(source))
        number, file = len(self._files) - 1, self._files[-1]
        if alone:
            return number, None, None, None, None, None
        uri, key = source.uri[len(file.uri) :], source.key[len(file.key) :]
        return number, source.row, source.offset, source.length, None if uri == str(source.row) else uri, key

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, k: int) -> SourceRef:  # type: ignore[override]
        return self._source(*(column[k % CHUNK].as_py() for column in self._batches[k // CHUNK].columns))

    def __iter__(self) -> Iterator[SourceRef]:
        for batch in self._batches:
            yield from map(self._source, *(column.to_pylist() for column in batch.columns))

    def _source(
        self, number: int, row: int | None, offset: int | None, length: int | None, uri: str | None, key: str
    ) -> SourceRef:
        file = self._files[number]
        if row is None and offset is None:
            return file
        uri = file.uri + (str(row) if uri is None else uri)
        return SourceRef(uri, file.path, offset, length, row, file.column, file.key + key, file.version)


class Listing(Mapping[str, SourceRef]):
    """id -> source, sorted by id. Ids are made of the sources when they are asked for. To see all, :meth:`pairs` is fast."""

    def __init__(self, sources: Packed, order: Sequence[int]) -> None:
        """``order``: of each id, by ids, where its source is."""
        self._sources, self._order = sources, order

    @classmethod
    def of(cls, sources: Packed) -> Listing | None:
        """With the ids that their places give them; None where two would have the same."""
        every, chunks = iter(sources), []
        while some := [_id(source) for source in islice(every, CHUNK)]:
            chunks.append(pa.array(some, pa.string()))
        ids = pa.chunked_array(chunks, pa.string())
        if pc.all(pc.less(ids[:-1], ids[1:])).as_py():  # as they are listed, mostly
            return cls(sources, range(len(ids)))
        order = pc.sort_indices(ids)
        return None if has_equal(ids.take(order)) else cls(sources, order.to_numpy())

    def first(self, count: int | None) -> Listing:
        """The first ``limit`` by id; all of them for None."""
        return Listing(self._sources, self._order[:count])

    def clear(self) -> None:
        """Let go of everything."""
        self._sources, self._order = Packed(()), ()

    def pairs(self) -> Iterator[tuple[str, SourceRef]]:
        """Every id with its source."""
        as_listed = isinstance(self._order, range)
        sources = islice(self._sources, len(self)) if as_listed else map(self._sources.__getitem__, self._order)
        return ((_id(source), source) for source in sources)

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[str]:
        return (image_id for image_id, _ in self.pairs())

    def __getitem__(self, image_id: str) -> SourceRef:
        k = bisect_left(self._order, image_id, key=lambda place: _id(self._sources[place]))
        source = self._sources[self._order[k]] if k < len(self) else None
        if source is None or _id(source) != image_id:
            raise KeyError(image_id)
        return source


def _id(source: SourceRef) -> str:
    return names_of(source)[0]


def in_order(sources: Mapping[str, SourceRef]) -> Iterator[tuple[str, SourceRef]]:
    """Every id with its source, sorted by id."""
    if isinstance(sources, Listing):
        return sources.pairs()
    return ((image_id, sources[image_id]) for image_id in sorted(sources))


def _shard_of(source: SourceRef) -> SourceRef:
    """What a source shares with the others of its shard: of its uri and its key what comes before the first mark."""
    uri, mark, _ = source.uri.partition("#")
    key, between, _ = source.key.partition(BETWEEN)
    return replace(source, uri=uri + mark, key=key + between, offset=None, length=None, row=None)


def _lies_in(source: SourceRef, file: SourceRef) -> bool:
    same = source.path == file.path and source.column == file.column and source.version == file.version
    return same and source.uri.startswith(file.uri) and source.key.startswith(file.key)
