"""The records that an inversion keeps of its images for the run that continues it, and the treatment of changed images."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ganinv.data import Dataset, SourceRef
from ganinv.data.changes import PENDING, REFUSED
from ganinv.data.index import read_index, write_index
from ganinv.data.source import Place
from ganinv.store import Collection, RowError
from ganinv.store.succession import log_changes
from tasks.jobs.dataset import placed

CHANGED = "changed"
"""Code of the error row of an image whose content has changed, if it is not to be computed again."""


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


def planned_place(collection: Collection, dataset: Dataset, url: str) -> str:
    """The URL of a data set as the plan of a run has it: ``url``, or where it lay when the run began, if it was moved since.

    It was moved if nothing is left where it lay, all its images are found now, and of those that have rows most are as they
    were: other images may have the same names. The plan then stays as it is; where the images are, the index of sources says.
    """
    if not _may_be_gone(url) or not collection.exists():
        return url
    plan, changed = collection.plan(), dataset.changes.changed
    planned = plan.config.get("dataset")  # latents that were imported, or made by another command, have none
    if not isinstance(planned, Mapping):
        return url
    was = placed(str(planned["url"]))
    if was == url or not _may_be_gone(was) or os.path.lexists(was) or any(glob.iglob(was, recursive=True)):
        return url
    if not dataset.sources.keys() >= set(plan.ids) or 2 * len(changed) > len(Noted(collection).uris(plan.ids)):
        return url
    return was


def _may_be_gone(url: str) -> bool:
    """Of what is not on a local disk nobody can say that it is gone: it may be out of reach."""
    return "://" not in url and "::" not in url


@dataclass(frozen=True)
class Settlement:
    """What a run has to do about images that have changed since the previous run.

    Args:
        changed, moved: id -> where the image is now.
        mended: id -> the shard that is whole again.
        replaced: id -> where it was, for images that disappeared and whose content is now that of another.
        computed: changed images that a run had already computed when it was killed.
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
        """Add new ids to the index, before workers or other runs look for them."""
        waiting = {*self.changed, *self.moved}
        write_index(dataset, collection.objects, collection.path, (i for i in ids if i not in waiting))

    def settle(self, dataset: Dataset, collection: Collection, ids: Iterable[str], refuse: bool) -> list[str]:
        """Update rows, errors and index for changed images, in this order: if the process is killed in between, the next one
        finds the same changes again. Returns the ids to compute again.

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
        """At the end of the run: record the current versions of changed images, and pass the changes on to derived
        collections."""
        if self.changed and not refuse:
            log_changes(collection, self.changed)
            write_index(Dataset(self.place, self.changed), collection.objects, collection.path, self.changed)
