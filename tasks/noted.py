"""What an inversion noted of its images, for the run that continues it; and what is done about those that changed since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ganinv.data import Dataset, SourceRef
from ganinv.data.changes import PENDING, REFUSED
from ganinv.data.index import read_index, write_index
from ganinv.data.source import Place
from ganinv.store import Collection, RowError
from ganinv.store.succession import log_changes

CHANGED = "changed"
"""Code of the error row of an image whose content changed, where it is not to be computed again."""


class Noted:
    """A collection of inversions as ``ganinv.data.changes.Known``."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    def planned(self) -> Sequence[str]:
        return self._collection.plan().ids

    def sources(self) -> Mapping[str, SourceRef]:
        return self._index

    def sha256(self, ids: Iterable[str]) -> Mapping[str, str]:
        return self._column("source_sha256", ids)

    def uris(self, ids: Iterable[str]) -> Mapping[str, str]:
        return self._column("source_uri", ids)

    def _column(self, name: str, ids: Iterable[str]) -> dict[str, str]:
        wanted = set(ids)
        wanted = wanted.intersection(self.planned()) if wanted else wanted
        if not wanted or not self._collection.done():
            return {}
        rows = self._collection.read(["image_id", name], ids=wanted)
        return dict(zip(rows["image_id"].to_pylist(), rows[name].to_pylist(), strict=True))

    @cached_property
    def _index(self) -> dict[str, SourceRef]:
        return read_index(self._collection.objects, self._collection.path)


@dataclass(frozen=True)
class Settlement:
    """What a run has to do about images that changed since the one before it.

    Args:
        changed, moved: id -> where the image is now.
        mended: id -> the shard that is whole again.
        replaced: id -> where it was, of images that went and whose content is another's now.
        computed: images that changed before, and that a run computed which then was killed.
    """

    place: Place
    changed: Mapping[str, SourceRef]
    moved: Mapping[str, SourceRef]
    mended: Mapping[str, SourceRef]
    replaced: Mapping[str, SourceRef]
    computed: frozenset[str] = frozenset()

    @classmethod
    def of(cls, dataset: Dataset, collection: Collection) -> Settlement:
        """Before anything is written."""
        changes, sources = dataset.changes, dataset.sources
        index = read_index(collection.objects, collection.path) if changes.mended or changes.replaced else {}
        return cls(
            dataset.place,
            {i: sources[i] for i in changes.changed if i in sources},
            {i: sources[i] for i in changes.moved if i in sources},
            {i: replace(index[i], fault=None, version=None) for i in changes.mended if i in index},
            # It has no row then, so should it come back it is computed.
            {i: replace(index[i], version=f"{REFUSED}{index[i].version}") for i in changes.replaced if i in index},
            changes.computed,
        )

    def write_new(self, dataset: Dataset, collection: Collection, ids: Iterable[str]) -> None:
        """Index what is new of ``ids``, before workers or other runs look for it."""
        waiting = {*self.changed, *self.moved}
        write_index(dataset, collection.objects, collection.path, (i for i in ids if i not in waiting))

    def settle(self, dataset: Dataset, collection: Collection, ids: Iterable[str], refuse: bool) -> list[str]:
        """Make rows, errors and index agree with what became of the images, in this order: after a process that is killed in
        between, the next finds the same changes again. The ids of those that are to be computed again.

        Args:
            refuse: images that changed become error rows.
        """
        errors = {}
        if refuse:
            advice = "the image has another content than its row was of: --changed compute inverts it again"
            errors = {i: RowError(i, CHANGED, f"{source.uri}: {advice}") for i, source in self.changed.items()}
        uris = {i: source.uri for i, source in self.moved.items()}
        amended = 0
        if uris or errors or self.mended or self.replaced:
            amended = collection.amend(uris, errors, {*self.mended, *self.replaced})
        told = {*self.computed, *((*errors, *self.replaced) if amended else ())}
        if told:
            log_changes(collection, told)
        # An image that changed counts as unknown until its new row is there.
        mark = REFUSED if refuse else PENDING
        marks = {i: replace(source, version=f"{mark}{source.version}") for i, source in self.changed.items()}
        marks |= {**self.mended, **self.replaced}
        write_index(dataset, collection.objects, collection.path, [*ids, *self.mended], marks)
        return [] if refuse else sorted(self.changed)

    def settled(self, collection: Collection, refuse: bool) -> None:
        """When the run is at its end: those that changed are what they are now, and who is made of their rows hears of it."""
        if self.changed and not refuse:
            log_changes(collection, self.changed)
            write_index(Dataset(self.place, self.changed), collection.objects, collection.path, self.changed)
