"""``InversionRun``: one collection of inverted images, with everything that was measured on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from ganinv.errors import GaninvError
from ganinv.metrics.protocol import EvaluationProtocol
from ganinv.report.words import find_protocol, find_text
from ganinv.store import Collection, Status, Store

MOST_CURVES = 500
"""Largest number of loss curves that are read for a method: with more, the quartiles do not change visibly."""


@dataclass(frozen=True)
class InversionRun:
    """A method on a data set.

    Args:
        label: name of the method, or of the collection if two methods have the same name.
        ids: measured images, sorted. numbers: measure -> float64 [len(ids)], NaN where missing.
        measured: True if the numbers come from an evaluation, False if they are the method's own.
        seconds: image id -> time, for all images that were tried. failures: image id -> reason.
        loss: loss curves of some images.
        protocol, distance: how the numbers were measured.
    """

    label: str
    latents: Collection
    ids: tuple[str, ...]
    numbers: dict[str, np.ndarray]
    measured: bool
    seconds: dict[str, float]
    failures: dict[str, str]
    loss: list[np.ndarray]
    status: Status
    protocol: EvaluationProtocol | None
    distance: str

    def value(self, key: str, image_id: str) -> float:
        """One number of one image; NaN if there is none."""
        place = self._places.get(image_id)
        return float("nan") if place is None or key not in self.numbers else float(self.numbers[key][place])

    def of(self, key: str, ids: Sequence[str]) -> np.ndarray:
        """Numbers of some images, in their order."""
        return np.array([self.value(key, image_id) for image_id in ids], dtype=np.float64)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {image_id: place for place, image_id in enumerate(self.ids)}


def read_runs(store: Store, names: Sequence[str], notes: list[str]) -> list[InversionRun]:
    """The runs that exist; missing ones are named in ``notes``."""
    runs = []
    for name in dict.fromkeys(names):
        collection = existing(store, "latents", name, notes)
        if collection is not None:
            try:
                runs.append(_read_run(store, collection, notes))
            except GaninvError as error:
                notes.append(f"The latents {name!r} are left out: {error}")
    twice = {label for label, times in Counter(run.label for run in runs).items() if times > 1}
    return [replace(run, label=run.latents.name) if run.label in twice else run for run in runs]


def existing(store: Store, kind: str, name: str | None, notes: list[str] | None = None) -> Collection | None:
    """A collection that was started and has at least one finished unit; otherwise None, and a note."""
    if name is None:
        return None
    try:
        collection = store.collection(kind, name)
        if collection.exists() and collection.done():
            return collection
        reason = "has no finished unit yet" if collection.exists() else "is not in the store"
    except GaninvError as error:
        reason = f"cannot be read: {error}"
    if notes is not None:
        notes.append(f"The collection {kind}/{name} {reason}, so it is left out.")
    return None


def columns_of(collection: Collection) -> list[str]:
    """Column names of the first row; empty if there is no row."""
    return next((list(batch.schema.names) for batch in collection.scan(batch_size=1)), [])


def read_columns(collection: Collection, wanted: Sequence[str]) -> pa.Table | None:
    """Those of the ``wanted`` columns that exist, with ``image_id``; None if there is no row."""
    there = columns_of(collection)
    if not there:
        return None
    return collection.read(["image_id", *(name for name in wanted if name in there and name != "image_id")])


def floats(table: pa.Table, name: str) -> np.ndarray:
    """A column as float64; null becomes NaN."""
    return np.array(table[name].cast(pa.float64()).to_numpy(), dtype=np.float64)


def score_names(columns: Sequence[str]) -> list[str]:
    """Attributes that have a column ``score_<attribute>``, in the order of the table."""
    plain = [name.removeprefix("score_") for name in columns if name.startswith("score_")]
    derived = {f"{name}{suffix}" for name in plain for suffix in ("_source", "_before")}
    return [name for name in plain if name not in derived]


def _read_run(store: Store, latents: Collection, notes: list[str]) -> InversionRun:
    metrics = existing(store, "metrics", latents.name)
    if metrics is None and columns_of(latents):
        notes.append(f"{latents.name!r} was not evaluated: its numbers are what the method measured itself.")
    source = metrics or latents
    skipped = {"w", "image_id", "loss", "steps"}
    numeric = ("mse", "psnr", "ssim", "ms_ssim", "distance")
    wanted = [c for c in columns_of(source) if c not in skipped and (c in numeric or c.startswith("score_"))]
    table = read_columns(source, wanted)
    ids = tuple(table["image_id"].to_pylist()) if table is not None else ()
    numbers = {name: floats(table, name) for name in wanted} if table is not None else {}
    timings = latents.timings()
    seconds = dict(zip(timings["image_id"].to_pylist(), timings["seconds"].to_pylist(), strict=True))
    numbers["seconds"] = np.array([seconds.get(image_id, np.nan) for image_id in ids], dtype=np.float64)
    records: list[dict[str, Any]] = [latents.provenance(), latents.plan().config]
    if metrics is not None:
        records = [metrics.provenance(), metrics.plan().config, *records]
    protocol = find_protocol(*records)
    return InversionRun(
        label=_method_name(latents),
        latents=latents,
        ids=ids,
        numbers=numbers,
        measured=metrics is not None,
        seconds=seconds,
        failures={row["image_id"]: f"{row['code']}: {row['message']}" for row in latents.errors().to_pylist()},
        loss=_curves(latents),
        status=latents.status(),
        protocol=protocol,
        distance=(protocol.distance if protocol else "") or find_text("distance_name", *records) or _distance(latents),
    )


def _curves(latents: Collection) -> list[np.ndarray]:
    if "loss" not in columns_of(latents):
        return []
    curves: list[np.ndarray] = []
    for batch in latents.scan(["loss"]):
        curves += [np.array(curve, dtype=np.float64) for curve in batch["loss"].to_pylist() if curve]
        if len(curves) >= MOST_CURVES:
            break
    return curves[:MOST_CURVES]


def _method_name(latents: Collection) -> str:
    for record in (latents.provenance(), latents.plan().config):
        method = record.get("method")
        if isinstance(method, dict):
            method = method.get("name")
        if isinstance(method, str) and method:
            return method
    return latents.name


def _distance(latents: Collection) -> str:
    method = latents.plan().config.get("method")
    return find_text("distance", method) if isinstance(method, dict) else ""
