"""Where the images of a run are, as one Parquet file: listed once, by whoever plans; read a little at a time, by the workers.

Listing a million files takes a thousand calls, and the headers of tar shards as many as there are shards; five hundred workers
that each did it would spend more than the work itself.
"""

from __future__ import annotations

import io
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache

import pyarrow as pa
import pyarrow.parquet as pq

from ganinv.data.dataset import Dataset
from ganinv.data.source import Place, SourceRef
from ganinv.errors import DataError
from ganinv.store.objects import Objects

GROUP = 2048
"""Rows that are read at once: a few units, in some ten kilobytes."""
_TEXT, _NUMBERS = ("uri", "path", "column"), ("offset", "length", "row")
_SCHEMA = pa.schema(
    [("image_id", pa.string()), *((n, pa.string()) for n in _TEXT), *((n, pa.int64()) for n in _NUMBERS)]
)


def write_index(dataset: Dataset, objects: Objects, path: str) -> None:
    """Write the sources of a data set, sorted by id. One that is there already stays: it belongs to the same plan."""
    rows = {name: [getattr(source, name) for source in dataset.sources.values()] for name in (*_TEXT, *_NUMBERS)}
    table = pa.table({"image_id": list(dataset.sources), **rows}, _SCHEMA).sort_by("image_id")
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=GROUP, write_statistics=["image_id"])
    try:
        objects.create(path, sink.getvalue())
    except FileExistsError:
        return


class SourceIndex:
    """Sources of some images at a time. Used by several threads.

    Args:
        place: of the data set.
        objects, path: where :func:`write_index` wrote it.
    """

    def __init__(self, place: Place, objects: Objects, path: str) -> None:
        self.place, self._objects, self._path = place, objects, path
        with objects.open(path) as file:
            self._metadata = pq.read_metadata(file)
        column = self._metadata.schema.names.index("image_id")
        groups = (self._metadata.row_group(g).column(column).statistics for g in range(self._metadata.num_row_groups))
        self._last = [group.max for group in groups]
        self._group = lru_cache(maxsize=4)(self._read_group)

    def dataset(self, ids: Sequence[str]) -> Dataset:
        """The data set with these images alone; a :class:`DataError` for one that it never had."""
        found: dict[str, SourceRef] = {}
        for image_id in sorted(ids):
            group = bisect_left(self._last, image_id)
            source = self._group(group).get(image_id) if group < len(self._last) else None
            if source is None:
                raise DataError(f"no image {image_id!r} in {self._objects.where(self._path)}: it is of another run")
            found[image_id] = source
        return Dataset(self.place, found)

    def _read_group(self, group: int) -> dict[str, SourceRef]:
        with self._objects.open(self._path) as file:
            table = pq.ParquetFile(file, metadata=self._metadata).read_row_group(group)
        return {row.pop("image_id"): SourceRef(**row) for row in table.to_pylist()}
