"""``Dataset``: images by id, wherever they are."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ganinv.data.decode import ImageRefused, decode_image
from ganinv.data.discover import discover
from ganinv.data.resize import to_resolution
from ganinv.data.source import Place, SourceRef
from ganinv.data.table import read_rows
from ganinv.errors import ConfigError, DataError, did_you_mean
from ganinv.store.plan import RowError

MAX_BYTES = 64 * 2**20


def open_dataset(
    url: str,
    *,
    image_column: str | None = None,
    where: Mapping[str, str] | None = None,
    limit: int | None = None,
    **storage_options: Any,
) -> Dataset:
    """List a data set; no image is opened yet.

    Args:
        url: a folder (with everything below it), a glob, an image, tar shards (``*.tar``, not compressed) or Parquet
            files, as a path or any fsspec URL.
        image_column: the Parquet column of image bytes, where it cannot be guessed.
        where: Parquet column -> value; only rows that have all of them are kept.
        limit: keep the first so many ids.
        storage_options: what fsspec's file system takes.

    Raises:
        DataError: nothing there, nothing of a known kind, or ids that cannot be told apart.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be at least 1 image, got {limit}; leave it out for all")
    place = Place(str(url), dict(storage_options))
    sources = discover(place, image_column, dict(where or {}))
    return Dataset(place, {image_id: sources[image_id] for image_id in sorted(sources)[:limit]})


@dataclass(frozen=True)
class LoadedBatch:
    """Images of one batch, those that could be read.

    Args:
        images: [B, 3, R, R] float32 in [-1, 1].
        ids: their B ids.
        sha256: hex digests of their B files, as stored.
        errors: one for each image that is not here.
    """

    images: Tensor
    ids: list[str]
    sha256: list[str]
    errors: list[RowError]


@dataclass(frozen=True)
class Dataset:
    """Images by id. Pickles, so a worker can get it whole; ``sources`` is sorted by id."""

    place: Place
    sources: Mapping[str, SourceRef]

    @cached_property
    def ids(self) -> list[str]:
        """Sorted unique ids."""
        return list(self.sources)

    def __len__(self) -> int:
        return len(self.sources)

    def forget(self) -> None:
        """Let go of all sources, once an index has them (``ganinv.data.index``): of ten million images they are gigabytes, and
        a run that goes on for days reads none of them. The data set is empty then."""
        self.__dict__.pop("ids", None)
        if isinstance(self.sources, dict):
            self.sources.clear()

    def read(self, image_id: str) -> bytes:
        """The bytes of one image file; :class:`ImageRefused` when they cannot be had, or are too many."""
        data = self._read_many([image_id])[image_id]
        if isinstance(data, ImageRefused):
            raise data
        return data

    def load(self, ids: Sequence[str], resolution: int) -> LoadedBatch:
        """Read, decode, crop and resize a batch. A bad image becomes an error, not an exception.

        Raises:
            DataError: an unknown id, or storage that fails for every image alike (worth a retry).
        """
        images: list[Tensor] = []
        batch = LoadedBatch(torch.empty(0, 3, resolution, resolution), [], [], [])
        for image_id, data in self._read_many(ids).items():
            try:
                if isinstance(data, ImageRefused):
                    raise data
                images.append(to_resolution(decode_image(data, max_bytes=MAX_BYTES), resolution))
            except ImageRefused as error:
                message = f"{self.sources[image_id].uri}: {error}"
                batch.errors.append(RowError(image_id, error.code, message, attempts=1))
            else:
                batch.ids.append(image_id)
                batch.sha256.append(hashlib.sha256(data).hexdigest())
        stacked = torch.stack(images) if images else batch.images
        return LoadedBatch(stacked, batch.ids, batch.sha256, batch.errors)

    def _read_many(self, ids: Sequence[str]) -> dict[str, bytes | ImageRefused]:
        """Bytes, or why there are none, in the order of ``ids``. Rows of one Parquet file are read together."""
        tables: dict[tuple[str, str | None], list[str]] = defaultdict(list)
        files = []
        for image_id in ids:
            source = self._source(image_id)
            if source.row is None:
                files.append(image_id)
            else:
                tables[source.path, source.column].append(image_id)
        found: dict[str, bytes | ImageRefused] = {}
        for members in tables.values():
            rows = read_rows(self.place, [self.sources[image_id] for image_id in members])
            found |= {image_id: _checked(data) for image_id, data in zip(members, rows, strict=True)}
        workers = 1 if self.place.is_local else min(8, len(files) or 1)
        with ThreadPoolExecutor(workers) as pool:
            found |= dict(zip(files, pool.map(self._read_file, files), strict=True))
        return {image_id: found[image_id] for image_id in ids}

    def _read_file(self, image_id: str) -> bytes | ImageRefused:
        source = self.sources[image_id]
        if source.length is not None and source.length > MAX_BYTES:
            return ImageRefused("too_large", f"the file has {source.length} bytes, at most {MAX_BYTES} are read")
        if not self.place.holds(source.path):
            return ImageRefused("outside", "a link that leads out of the data set's folder: put the file itself there")
        try:
            return self.place.read(source)
        except FileNotFoundError:
            return ImageRefused("missing", "the file was listed and is gone now")
        except PermissionError as error:
            return ImageRefused("unreadable", f"permission denied ({error})")

    def _source(self, image_id: str) -> SourceRef:
        try:
            return self.sources[image_id]
        except KeyError:
            hint = did_you_mean(image_id, self.ids)
            raise DataError(f"no image {image_id!r} among the {len(self)} of {self.place.url}{hint}") from None


def _checked(data: bytes | None) -> bytes | ImageRefused:
    return ImageRefused("missing", "the row has no image bytes") if data is None else data
