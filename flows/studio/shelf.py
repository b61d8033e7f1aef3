"""What a store has to be looked at: inversions of one generator, their rows, their photos, and directions for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from threading import Lock
from typing import Any

import pyarrow as pa
from PIL import Image

from flows.studio.rows import scalar_columns
from flows.studio.subject import Subject, to_picture
from ganinv.directions.direction import Direction
from ganinv.errors import GaninvError, GeneratorMismatch, StoreError
from ganinv.generators.stylegan2 import Generator
from ganinv.records import CodeReader
from ganinv.store import Collection, Store
from tasks.generator_check import check_generator
from tasks.records import Sources, load_sources
from tasks.sources import sources_of

WITHOUT_LABELS = ("pca-", "sefa-", "component-")
"""Directions that nobody named after what they do: they come last."""


class Shelf:
    """Everything of a store that belongs to a generator. Used by several threads."""

    def __init__(
        self,
        store: Store,
        generator: Generator,
        encoders: Mapping[str, str] | None = None,
        needed: Mapping[str, str] | None = None,
    ) -> None:
        self.store, self.generator = store, generator
        self._places, self._needed = dict(encoders or {}), dict(needed or {})
        self._readers: dict[str, CodeReader] = {}
        self._sources: dict[str, Sources | None] = {}
        self._lock = Lock()

    def collections(self) -> list[str]:
        """Names of the inversions of this generator that have a row."""
        return [name for name in self.store.list("latents") if self._fits(name)]

    def left_out(self) -> list[str]:
        """Names of the inversions that are of another generator, or have no row yet."""
        fit = set(self.collections())
        return [name for name in self.store.list("latents") if name not in fit]

    @cached_property
    def directions(self) -> dict[str, Direction]:
        """The newest version of each direction for this generator, those first that are named after what they do."""
        own = self.generator.fingerprint
        names = {
            str(each["name"])
            for each in self.store.directions.list(shipped=True)
            if each.get("generator_fingerprint") == own and each["deprecated"] is None
        }
        ordered = sorted(names, key=lambda name: (name.startswith(WITHOUT_LABELS), name))
        return {name: self.store.directions.get(name, own) for name in ordered}

    def rows(self, name: str) -> pa.Table:
        """``image_id`` and every other column of one value, of the inversions and of their metrics where they were evaluated."""
        collection = self.store.latents[name]
        table = _scalars(collection)
        if name in self.store.metrics:
            try:
                measured = _scalars(self.store.metrics[name])
            except StoreError:  # a run that has not finished any unit
                return table
            new = [column for column in measured.schema.names if column not in table.schema.names]
            table = table.join(measured.select(["image_id", *new]), "image_id").sort_by("image_id")
        return table

    def reader(self, name: str) -> CodeReader:
        """Of a collection; opened once, since inverters are large."""
        with self._lock:
            if name not in self._readers:
                self._readers[name] = CodeReader(
                    self.store, self.store.latents[name], self.generator, encoders=self._places, needed=self._needed
                )
            return self._readers[name]

    def forget(self, name: str) -> None:
        """What was opened for a collection, which has other rows now."""
        with self._lock:
            self._readers.pop(name, None)
            self._sources.pop(name, None)

    def subject(self, name: str, image_id: str, with_picture: bool = True) -> Subject:
        """One inversion.

        Raises:
            StoreError: no such row, or what it refers to is damaged. WeightsRefused: its inverter is not available.
        """
        collection, reader = self.store.latents[name], self.reader(name)
        table = collection.read(ids=[image_id])
        if not table.num_rows:
            raise StoreError(f"{image_id!r} is not a row of {name!r}: it failed, or is not done yet")
        row = table.select(scalar_columns(table.schema)).slice(0, 1).to_pylist()[0]
        facts = {key: value for key, value in row.items() if value is not None and key != "image_id"}
        photo = picture = None
        if reader.edits_need_images:
            photo = next(iter(self._photos(name, [image_id], reader.photo_side).values()), None)
        if with_picture:
            picture = self.pictures(name, [image_id], self._shown).get(image_id)
        method = str(collection.provenance().get("method") or name)
        code = reader.codes(table, [0])
        return Subject(image_id, name, method, code, self.generator, reader, photo, picture, facts)

    def pictures(self, name: str, ids: Sequence[str], side: int | None = None) -> dict[str, Image.Image]:
        """The photos of some inversions, cropped as they were inverted; without those that are gone."""
        return {i: to_picture(image) for i, image in self._photos(name, ids, side or self.generator.resolution).items()}

    def thumbnails(self, name: str, ids: Sequence[str]) -> list[Image.Image]:
        """A picture for each: its photo, and where that is gone, its rendering."""
        found = self.pictures(name, ids, min(self._shown, 128))
        return [found.get(i) or self.subject(name, i, with_picture=False).plain for i in ids]

    def alike(self, subject: Subject) -> list[Subject]:
        """The inversions of the same photo by other methods, in the order of their names."""
        digest = self._digest(subject.latents, subject.image_id)
        if digest is None:
            return []
        others = [name for name in self.collections() if name != subject.latents]
        same = [name for name in others if self._digest(name, subject.image_id) == digest]
        return [self.subject(name, subject.image_id, with_picture=False) for name in same]

    @property
    def _shown(self) -> int:
        """Pixels of photos that people are shown: a small generator's photos at more than its own."""
        return max(self.generator.resolution, 256)

    def _fits(self, name: str) -> bool:
        collection = self.store.latents[name]
        try:
            check_generator(collection.provenance(), self.generator, name)
        except (GeneratorMismatch, StoreError):
            return False
        return bool(collection.done())

    def _digest(self, name: str, image_id: str) -> str | None:
        """Of the photo that a row is of; None if there is no such row, or it does not say."""
        try:
            table = self.store.latents[name].read(ids=[image_id])
        except StoreError:  # the id was never planned there
            return None
        if not table.num_rows or "source_sha256" not in table.schema.names:
            return None
        digest: str | None = table["source_sha256"][0].as_py()
        return digest

    def _photos(self, name: str, ids: Sequence[str], side: int | None) -> dict[str, Any]:
        """image_id -> [1, C, side, side], of those that are still there and the same."""
        collection = self.store.latents[name]
        if name not in self._sources:
            try:
                self._sources[name] = sources_of(collection, self.store)
            except GaninvError:  # imported: nobody knows of which images, or their data set is gone
                self._sources[name] = None
        sources = self._sources[name]
        if sources is None or not ids:
            return {}
        try:
            images, table, _ = load_sources(sources, collection, list(ids), self.generator, side)
        except GaninvError:
            return {}
        return {i: images[k : k + 1] for k, i in enumerate(table["image_id"].to_pylist())}


def _scalars(collection: Collection) -> pa.Table:
    return collection.read(scalar_columns(collection.read(ids=[]).schema))
