"""``Dataset``: images by id, wherever they are."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ganinv.data.changes import Changes, Known, reconciled
from ganinv.data.decode import ImageRefused, decode
from ganinv.data.discover import discover
from ganinv.data.identity import identified
from ganinv.data.kinds import suffix_of
from ganinv.data.left_out import LeftOut
from ganinv.data.listing import Listing
from ganinv.data.names import clean_id, from_text
from ganinv.data.resize import to_resolution
from ganinv.data.source import Place, SourceRef
from ganinv.data.table import Wanted, read_rows
from ganinv.errors import ConfigError, DataError, did_you_mean
from ganinv.store.plan import RowError

MAX_BYTES = 64 * 2**20
HASHED_AT_ONCE = 64


def open_dataset(
    url: str,
    *,
    image_column: str | None = None,
    id_column: str | None = None,
    where: Mapping[str, str] | None = None,
    limit: int | None = None,
    known: Known | None = None,
    **storage_options: Any,
) -> Dataset:
    """List a data set; no image is opened yet.

    Args:
        url: a folder (with everything below it), a glob, an image, tar shards (``*.tar``, not compressed) or Parquet
            files, as a path or any fsspec URL.
        image_column: the Parquet column of images, if it cannot be found by its type.
        id_column: the Parquet column of ids, ``face_id``, ``image_id`` or ``id`` by default; ``none`` numbers the rows.
        where: Parquet column -> value; only rows that have all of them are kept.
        limit: keep only this many images, the first by id.
        known: records of an earlier run. Its images keep their ids; images that may have changed according to the listing are
            read and compared (``Dataset.changes``).
        storage_options: what fsspec's file system takes.

    Raises:
        DataError: nothing there, nothing of a known kind, or ids that cannot be distinguished.
    """
    if not str(url).strip():
        raise ConfigError("expected a folder, a glob, an image, a tar or a Parquet file, got an empty text")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be at least 1 image, got {limit}; leave it out for all")
    place = Place(str(url), dict(storage_options))
    found = discover(place, Wanted(image_column, id_column, dict(where or {})))
    if known is None:
        listing = Listing.of(found.sources)
        if listing is not None:  # as nearly always
            return Dataset(place, listing.first(limit), found.left)
        sources, changes = identified(found.sources), Changes()
    else:
        sources, changes = reconciled(place, found, known, lambda some: Dataset(place, some).sha256())
    kept = {image_id: sources[image_id] for image_id in sorted(sources)[:limit]}
    return Dataset(place, kept, found.left, changes)


@dataclass(frozen=True)
class LoadedBatch:
    """Images of one batch, those that could be read.

    Args:
        images: [B, 3, R, R] float32 in [-1, 1].
        ids: their B ids.
        sha256: hex digests of their B files, as stored.
        errors: one for each image that is not here.
        ignored: parts of files that were ignored, such as a damaged ``colour profile`` -> in how many files.
        photos: the same images at a larger size, if requested.
        sizes: (width, height) of each image in its file.
    """

    images: Tensor
    ids: list[str]
    sha256: list[str]
    errors: list[RowError]
    ignored: Mapping[str, int] = field(default_factory=dict)
    photos: Tensor | None = None
    sizes: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True)
class Photo:
    """One image as its file has it: upright, RGB in sRGB. ``sha256``: hex digest of the file; ``ignored``: parts of it that
    were."""

    image_id: str
    image: Image.Image
    sha256: str
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Images by id. Pickles, so a worker can get it whole; ``sources`` is sorted by id.

    Args:
        left_out: counts of other files there.
        changes: changes since the run of ``known``.
    """

    place: Place
    sources: Mapping[str, SourceRef]
    left_out: LeftOut = field(default_factory=LeftOut)
    changes: Changes = field(default_factory=Changes)

    @cached_property
    def ids(self) -> list[str]:
        """Sorted unique ids."""
        return list(self.sources)

    def __len__(self) -> int:
        return len(self.sources)

    def forget(self) -> None:
        """Discard all sources once an index has them (``ganinv.data.index``): for ten million images they take a gigabyte, and a
        run of several days does not need them. The data set is empty afterwards."""
        self.__dict__.pop("ids", None)
        if isinstance(self.sources, dict | Listing):
            self.sources.clear()

    def read(self, image_id: str) -> bytes:
        """The bytes of one image file; :class:`ImageRefused` if they cannot be read, or are too many."""
        data = self._read_many([image_id])[image_id]
        if isinstance(data, ImageRefused):
            raise data
        return data

    def load(self, ids: Sequence[str], resolution: int, *, nearest: bool = False) -> LoadedBatch:
        """Read, decode, crop and resize a batch. A bad image becomes an error, not an exception.

        Args:
            nearest: resize by the nearest pixels, for label maps.

        Raises:
            DataError: an unknown id, or storage that fails for every image alike (worth a retry).
        """
        images: list[Tensor] = []
        sizes: list[tuple[int, int]] = []
        ignored: Counter[str] = Counter()
        batch = LoadedBatch(torch.empty(0, 3, resolution, resolution), [], [], [])
        for photo in self.photos(ids):
            if isinstance(photo, RowError):
                batch.errors.append(photo)
                continue
            images.append(to_resolution(photo.image, resolution, nearest=nearest))
            sizes.append(photo.image.size)
            ignored.update(photo.ignored)
            batch.ids.append(photo.image_id)
            batch.sha256.append(photo.sha256)
        stacked = torch.stack(images) if images else batch.images
        return LoadedBatch(stacked, batch.ids, batch.sha256, batch.errors, dict(ignored), sizes=sizes)

    def photos(self, ids: Sequence[str]) -> Iterator[Photo | RowError]:
        """Read a batch, then decode one image after another at its own size, in the order of ``ids``; an error for a bad one.

        Raises:
            DataError: an unknown id, or storage that fails for every image alike (worth a retry).
        """
        for image_id, data in self._read_many(ids).items():
            try:
                if isinstance(data, ImageRefused):
                    raise data
                decoded = decode(data, max_bytes=MAX_BYTES, suffix=self._suffix(image_id))
            except ImageRefused as error:
                yield RowError(image_id, error.code, clean_id(f"{self.sources[image_id].uri}: {error}"), attempts=1)
            else:
                yield Photo(image_id, decoded.image, hashlib.sha256(data).hexdigest(), decoded.ignored)

    def sha256(self) -> dict[str, str | None]:
        """The hash of every image's bytes as they are now, a few at a time; None where they cannot be read."""
        found: dict[str, str | None] = {}
        order = sorted(self.sources, key=lambda i: (self.sources[i].path, self.sources[i].row or 0))
        for first in range(0, len(order), HASHED_AT_ONCE):
            for image_id, data in self._read_many(order[first : first + HASHED_AT_ONCE]).items():
                found[image_id] = None if isinstance(data, ImageRefused) else hashlib.sha256(data).hexdigest()
        return found

    def _suffix(self, image_id: str) -> str:
        """Of the image's own name, where it has one."""
        source = self.sources[image_id]
        return "" if source.row is not None else suffix_of(from_text(source.key) or source.uri)

    def _read_many(self, ids: Sequence[str]) -> dict[str, bytes | ImageRefused]:
        """Bytes, or why there are none, in the order of ``ids``. Rows of one Parquet file are read together."""
        tables: dict[tuple[str, str | None], list[str]] = defaultdict(list)
        files = []
        found: dict[str, bytes | ImageRefused] = {}
        for image_id in ids:
            source = self._source(image_id)
            if source.fault is not None:
                found[image_id] = ImageRefused("shard", source.fault)
            elif source.row is None:
                files.append(image_id)
            else:
                tables[source.path, source.column].append(image_id)
        for members in tables.values():
            rows = read_rows(self.place, [self.sources[image_id] for image_id in members])
            found |= dict(zip(members, rows, strict=True))
        if self.place.is_local:
            found |= {image_id: self._read_file(image_id) for image_id in files}
        else:
            with ThreadPoolExecutor(min(8, len(files) or 1)) as pool:
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
            if self.place.is_local and os.path.islink(source.path):
                return ImageRefused("missing", "a link to a file that is not there")
            return ImageRefused("missing", "the file was listed and is gone now")
        except PermissionError as error:
            return ImageRefused("unreadable", f"permission denied ({error})")

    def _source(self, image_id: str) -> SourceRef:
        try:
            return self.sources[image_id]
        except KeyError:
            hint = did_you_mean(image_id, self.ids)
            raise DataError(f"no image {image_id!r} among the {len(self)} of {self.place.url}{hint}") from None
