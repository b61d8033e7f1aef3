"""Progress of a run, derived from its objects alone. Needs no server and no cluster, so it works for runs elsewhere too.

One listing of a collection says which units are done and when; the plan says how many images they hold. How many of them
failed is in the manifest. Before there is one, it is in the driver's note (``ganinv.store.failed``), and in the errors tables of
units that were done after it; tables that are empty are not read.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

import pyarrow.parquet as pq

from ganinv.errors import StoreError
from ganinv.store.collection import Collection
from ganinv.store.failed import NOTE, noted
from ganinv.store.growth import is_addition
from ganinv.store.objects import ObjectEntry
from ganinv.store.store import Store, open_store

NOT_COLLECTIONS = ("directions", "encoders", "generators", "inputs", "reports")
PAUSE_SECONDS = 300.0  # a run whose last part is older than this, and than ten of its usual gaps, is silent
_FILE = re.compile(r"(part|errors)-(\d{5,})\.parquet")


@dataclass(frozen=True)
class CollectionProgress:
    """Images of one collection: ``planned = done + failed + left``.

    Args:
        state: ``finished`` has its manifest, ``planned`` no part yet, ``silent`` no part for longer than is usual.
        rate: images per second since the run's last pause; None if it cannot be determined yet.
        seconds_left: at this rate.
        last_part: when the newest part was written, seconds since 1970.
    """

    collection: str
    state: Literal["planned", "running", "silent", "finished"]
    planned: int
    done: int
    failed: int
    left: int
    rate: float | None
    seconds_left: float | None
    last_part: float | None


def progress_at(url: str) -> list[CollectionProgress]:
    """Of the collection at ``url``, or of all collections of the store there.

    Raises:
        StoreError: there is neither.
    """
    store = open_store(url)
    if store.objects.read_if_there("plan.json") is not None:
        root, kind, name = store.url.rsplit("/", 2)
        return [progress(open_store(root).collection(kind, name))]
    found = [progress(each) for each in collections(store)]
    if not found:
        raise StoreError(
            f"nothing was run at {store.url}: expected the URL of a store, or of a collection in it such as "
            f"{store.url}/latents/pti"
        )
    return found


def collections(store: Store) -> Iterator[Collection]:
    """Every collection of a store that has a plan, by kind and name."""
    for kind in store.objects.names(""):
        if kind not in NOT_COLLECTIONS:
            for name in store.objects.names(kind):
                if (
                    store.objects.read_if_there(f"{kind}/{name}/plan.json") is not None
                ):  # one call; to list it may take many
                    yield store.collection(kind, name)


def progress(collection: Collection) -> CollectionProgress:
    """Of one collection that has a plan."""
    sizes = {unit.index: len(unit.ids) for unit in collection.plan().units}
    entries = collection.objects.entries(collection.path)
    files = {(m[1], int(m[2])): entry for entry in entries if (m := _FILE.fullmatch(entry.name))}
    parts = {index: entry for (kind, index), entry in files.items() if kind == "part" and index in sizes}
    finished = any(entry.name == "_manifest.json" for entry in entries) and len(parts) == len(sizes)
    manifest = collection.manifest() if finished else None  # it has been counted already
    errors = {index: files["errors", index] for index in parts if ("errors", index) in files}
    note = next((entry for entry in entries if entry.name == NOTE), None)
    failed = _failed(collection, errors, note) if manifest is None else manifest.failed
    planned, reached = sum(sizes.values()), sum(sizes[index] for index in parts)
    steps = sorted((entry.modified, sizes[index]) for index, entry in parts.items() if entry.modified is not None)
    grown = max((entry.modified or 0.0 for entry in entries if is_addition(entry.name)), default=0.0)
    rate, silent = _pace(steps, time.time(), grown)
    left = planned - reached
    return CollectionProgress(
        collection=collection.path,
        state="finished" if finished else "planned" if not parts else "silent" if silent else "running",
        planned=planned,
        done=reached - failed,
        failed=failed,
        left=left,
        rate=rate,
        seconds_left=left / rate if rate and left else 0.0 if not left else None,
        last_part=steps[-1][0] if steps else None,
    )


def _pace(steps: Sequence[tuple[float, int]], now: float, grown: float) -> tuple[float | None, bool]:
    """Images per second since the last pause, and whether the run pauses now. ``steps``: (time, images) by time.
    ``grown``: when images were last added to the plan.

    Times are the storage's own, so the rate needs no clock to agree with another.
    """
    if not steps:
        return None, False
    gaps = [b - a for (a, _), (b, _) in pairwise(steps)]
    longest = max(PAUSE_SECONDS, 10 * median(gaps)) if gaps else PAUSE_SECONDS
    start = max((k + 1 for k, gap in enumerate(gaps) if gap > longest), default=0)
    since = steps[start:]
    took = since[-1][0] - since[0][0]
    # What the first part took began before it was written: its images are not counted.
    rate = sum(images for _, images in since[1:]) / took if took > 0 else None
    return rate, now - max(steps[-1][0], grown) > longest


EMPTY_SLACK = 64
"""Bytes by which the empty errors tables of one collection may differ: the digits of the unit's number, in their header.
A row costs hundreds."""


def _failed(collection: Collection, errors: Mapping[int, ObjectEntry], note: ObjectEntry | None) -> int:
    """How many images failed. Errors tables without rows are told by their size, so that few have to be read; neither are those
    older than the note, where that has their unit."""
    if not errors:
        return 0
    smallest = min(errors.values(), key=lambda entry: entry.bytes)
    limit = smallest.bytes + EMPTY_SLACK if _rows(collection, [smallest]) == 0 else -1
    full = {index: entry for index, entry in errors.items() if entry.bytes > limit}
    known = dict[int, int]()
    if full and note is not None:
        known = {i: failed for i, failed in noted(collection).items() if i in full and _older(full[i], note)}
    return sum(known.values()) + _rows(collection, [entry for index, entry in full.items() if index not in known])


def _older(entry: ObjectEntry, note: ObjectEntry) -> bool:
    """Storage may tell times in whole seconds: what is of the same second is not known to be older."""
    return entry.modified is not None and note.modified is not None and entry.modified < note.modified


def _rows(collection: Collection, entries: Sequence[ObjectEntry]) -> int:
    contents = collection.objects.read_many([f"{collection.path}/{entry.name}" for entry in entries])
    return sum(pq.ParquetFile(io.BytesIO(content)).metadata.num_rows for content in contents)
