"""Estimate the cost of an inversion before it begins: images, seconds, CPU and GPU hours, bytes.

Figures come from earlier inversions by the same method with the same generator in the store, such as a trial of 16 images, else
from ``configs/costs.yaml``. Without either, nothing is guessed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from ganinv.config import config_file, load_yaml
from ganinv.errors import StoreError
from ganinv.store import Collection, Plan, Store
from ganinv.store.conflict import same_run
from tasks.engine import Engine, gpus_expected
from tasks.pool.progress import format_duration
from tasks.same_run import comparable
from tasks.summary import ran_on_gpus


@dataclass(frozen=True)
class Figures:
    """Of one image: ``seconds`` of one worker, ``bytes`` in the store, and where the numbers are from."""

    seconds: float
    bytes: float
    source: str


@dataclass(frozen=True)
class Estimate:
    """The remaining work, and its cost.

    Args:
        images: of the data set; ``left`` of them are to be inverted.
        slots: workers; None if the cluster decides.
        seconds: from the first image to the last, with all slots busy; None without figures or slots.
        cpu_hours, gpu_hours: hours for which the slots hold their resources; None without figures.
        bytes: to be written; None without figures.
        source: of the figures.
    """

    collection: str
    images: int
    left: int
    units: int
    slots: int | None
    seconds: float | None
    cpu_hours: float | None
    gpu_hours: float | None
    bytes: int | None
    source: str

    def line(self) -> str:
        """In one line, for people."""
        parts = [f"{self.left} of {self.images} images to invert, in {self.units} units"]
        if self.cpu_hours is not None and self.left:
            parts += (
                [f"about {format_duration(self.seconds)} with {self.slots} workers"] if self.seconds is not None else []
            )
            parts += [f"{self.cpu_hours:.2g} CPU hours"] + (
                [f"{self.gpu_hours:.2g} GPU hours"] if self.gpu_hours else []
            )
            parts.append(f"{_size(self.bytes or 0)} ({self.source})")
        elif self.left:
            parts.append(self.source)
        return ", ".join(parts)


def estimate(store: Store, collection: Collection, plan: Plan, engine: Engine) -> Estimate:
    """Of filling ``collection`` as ``plan`` says. Writes nothing.

    Raises:
        RunConflict: another run has this name already; it would be refused.
    """
    done: set[int] = set()
    if collection.exists():
        there = same_run(collection.plan(), plan, collection.url, grows=True, reread=comparable)
        plan, done = there.extended(there.lacking(plan)), collection.done()
    left = [unit for unit in plan.units if unit.index not in done]
    images = sum(len(unit.ids) for unit in left)
    gpus = gpus_expected(engine)
    slots = _slots(engine, gpus, len(left))
    figures = _from_store(store, plan, gpus > 0) or _from_table(plan, gpus > 0)
    busy = images * figures.seconds if figures else None
    return Estimate(
        collection=collection.path,
        images=sum(len(unit.ids) for unit in plan.units),
        left=images,
        units=len(left),
        slots=slots,
        seconds=busy / slots if busy is not None and slots else None,
        cpu_hours=busy * engine.cpus_per_slot / 3600 if busy is not None else None,
        gpu_hours=busy * gpus / 3600 if busy is not None else None,
        bytes=round(images * figures.bytes) if figures else None,
        source=figures.source if figures else UNKNOWN,
    )


MEASURED_UNITS = 16
UNKNOWN = "what one costs is not known: invert some first (--limit 16 --name trial), then ask again"


RAY_SECONDS = 8.0
"""Seconds until Ray and its workers have started (benchmarks/scale/start.py)."""


def little(estimated: Callable[[], Estimate], engine: Engine) -> str:
    """Why the work is too small for Ray on this machine: one process would finish before workers have started. Empty if it is
    not, if that is unknown, or if the engine is fixed."""
    if engine.kind != "auto" or engine.runs == "inline" or os.environ.get("RAY_ADDRESS"):
        return ""
    cost = estimated()
    if cost.seconds is None or cost.slots is None:
        return ""
    alone = cost.seconds * cost.slots
    if alone - cost.seconds >= RAY_SECONDS:
        return ""
    return f"about {format_duration(alone)} of work, Ray would take longer to start"


def _slots(engine: Engine, gpus: float, units: int) -> int | None:
    if engine.runs == "inline":
        return 1
    if engine.slots is None and os.environ.get("RAY_ADDRESS"):
        return None  # as many as the cluster holds, and it may grow
    if engine.slots is None and gpus:
        return None
    from tasks.pool.ray_local import cores

    slots = engine.slots or max(1, int(cores() / (engine.cpus_per_slot or 1)))
    return max(1, min(slots, units))


def _from_store(store: Store, plan: Plan, gpus: bool) -> Figures | None:
    """Of the collection with most units that the same method made with the same generator, on the same kind of device."""
    alike: list[tuple[int, Collection]] = []
    for name in store.list("latents"):
        collection = store.latents[name]
        with suppress(StoreError):  # a damaged neighbour is no reason not to begin
            same = collection.exists() and _alike(collection.plan(), plan)
            if same and ran_on_gpus(collection) in (gpus, None):
                alike.append((len(collection.done()), collection))
    units, best = max(alike, key=lambda each: each[0], default=(0, None))
    return _measured(best) if units and best is not None else None


def _alike(there: Plan, now: Plan) -> bool:
    old, new = comparable(there.config), comparable(now.config)
    return all(old.get(key) == new.get(key) for key in ("method", "generator", "encoder", "record", "measure"))


def _measured(collection: Collection) -> Figures | None:
    """Of the first units that are done."""
    done = sorted(collection.done())[:MEASURED_UNITS]
    units = [unit for unit in collection.plan().units if unit.index in done]
    seconds = collection.timings(done)["seconds"]
    extras = collection.read(["extras_bytes"], [i for unit in units for i in unit.ids])["extras_bytes"]
    if not len(seconds) or not len(extras):
        return None
    names = {f"part-{index:05d}.parquet" for index in done}
    parts = sum(e.bytes for e in collection.objects.entries(collection.path) if e.name in names)
    size = (parts + (pc.sum(extras).as_py() or 0)) / len(extras)
    return Figures(pc.mean(seconds).as_py(), size, f"measured on {len(seconds)} images of {collection.path}")


def _from_table(plan: Plan, gpus: bool) -> Figures | None:
    device = "cuda" if gpus else "cpu"
    wanted: dict[str, Any] = {
        "method": plan.provenance.get("method"),
        "generator": plan.provenance.get("generator_name"),
        "device": device,
    }
    for row in load_yaml(config_file("costs.yaml"))["costs"]:
        alike = row.get("measure", True) == plan.config.get("measure", True)
        if alike and all(row[key] == value for key, value in wanted.items()):
            return Figures(row["seconds"], row["bytes"], row["source"])
    return None


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError
