"""Flicker of videos that were inverted frame by frame, and of their edits: a part of ``evaluate``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ganinv.errors import ConfigError
from ganinv.frames import frame_order, sequence_of
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.metrics.flicker import INTERIOR, frame_changes
from ganinv.records import CodeReader
from ganinv.store import Collection, Plan, RowError, Store, Unit, open_store
from tasks.engine import Pools, default_device, provenance, run_units
from tasks.pool import WorkerSpec
from tasks.records import load_sources
from tasks.sources import sources_of

FLICKER = {"latents": "flicker", "edits": "edit-flicker"}
"""Kind of what is measured -> kind of the table."""
AT_ONCE = 16


class OfFrames(Protocol):
    """A job that says what is measured."""

    @property
    def store(self) -> str: ...

    @property
    def latents(self) -> str: ...

    @property
    def generator(self) -> str: ...

    def reader(self, store: Store, collection: Collection, generator: Generator) -> CodeReader: ...


def run_flicker(job: OfFrames, pools: Pools, kind: str, name: str) -> dict[str, Any]:
    """Fill ``flicker/<name>`` of latents, or ``edit-flicker/<name>``. A unit is a video, all frames of a folder.

    A row has the frame's mean change from the frame before it, of the rendering (``change``) and of its source
    (``source_change``); that of the first is null. Returns counts, and the mean difference of the two as ``flicker``.

    Raises:
        ConfigError: no folder has two frames.
    """
    store, generator = open_store(job.store), open_generator(job.generator)
    source = store.collection(kind, name)
    planned, good = source.plan(), set(source.read(columns=["image_id"])["image_id"].to_pylist())
    ids = [i for i in planned.ids if i in good]
    counted: dict[str, int] = defaultdict(int)
    for image_id in ids:
        counted[sequence_of(image_id)] += 1
    if max(counted.values(), default=0) < 2:
        raise ConfigError(
            f"{kind} {name!r} have no folder with two frames, and flicker is between frames of one: omit --frames"
        )
    config = {"source_digest": source.provenance()["config_digest"], "interior": INTERIOR}
    said = provenance(generator, method=source.provenance().get("method"))
    plan = Plan.of("flicker", config, said, ids, len(ids), sequence_of)
    table = store.collection(FLICKER[kind], name)
    spec = WorkerSpec(FlickerWorker, {"job": job, "kind": kind, "name": name})
    result = run_units(table, plan, spec, pools, f"flicker {name}", what="frames", made_of=[source])
    return result | {"flicker": _means(table.read())}


def _means(table: pa.Table) -> Any:
    """The mean difference; of edits by ``edit@strength``."""
    excess = table["change"].to_numpy() - table["source_change"].to_numpy()
    if "edit" not in table.schema.names:
        return round(float(np.nanmean(excess)), 5)
    found: dict[str, list[float]] = defaultdict(list)
    for edit, strength, value in zip(table["edit"].to_pylist(), table["strength"].to_pylist(), excess, strict=True):
        found[f"{edit}@{strength:g}"].append(value)
    return {key: round(float(np.nanmean(values)), 5) for key, values in found.items()}


class FlickerWorker:
    """Renders the frames of a video in their order and compares each with the one before, beside their sources."""

    def __init__(self, job: OfFrames, kind: str, name: str) -> None:
        self.store = open_store(job.store)
        self.latents, self.measured = self.store.latents[job.latents], self.store.collection(kind, name)
        self.collection = self.store.collection(FLICKER[kind], name)
        self.generator = open_generator(job.generator, default_device())
        self.reader = job.reader(self.store, self.measured, self.generator)
        self.sources = sources_of(self.latents, self.store)
        self.edits = kind == "edits"

    @torch.inference_mode()
    def process(self, ids: Sequence[str]) -> list[Any]:
        rows: list[Any] = []
        photo: Tensor | None = None
        before: dict[Any, Tensor] = {}
        order = frame_order(ids)
        for first in range(0, len(order), AT_ONCE):
            some = order[first : first + AT_ONCE]
            images, table, errors = load_sources(self.sources, self.latents, some, self.generator)
            rows += errors
            photos = dict(zip(table["image_id"].to_pylist(), images, strict=True))
            for image_id in (i for i in some if i in photos):
                source_change = _change(photo, photos[image_id])
                for key, rendering in self._renderings(image_id):
                    rows.append((image_id, key, _change(before.get(key), rendering), source_change))
                    before[key] = rendering
                photo = photos[image_id]
        return rows

    def _renderings(self, image_id: str) -> list[tuple[Any, Tensor]]:
        """Of a frame: (edit, strength), or None, and the rendering [C, R, R]."""
        table = self.measured.read(ids=[image_id])
        images = self.generator.render(self.reader.codes(table).to(self.generator.device)).cpu()
        if not self.edits:
            return [(None, images[0])]
        keys = zip(table["edit"].to_pylist(), table["strength"].to_pylist(), strict=True)
        return list(zip(keys, images, strict=True))

    def commit(self, unit: Unit, rows: list[Any], failures: Sequence[RowError]) -> Mapping[str, Any]:
        rows.sort(key=lambda row: row[0])
        columns: dict[str, Any] = {"image_id": pa.array([row[0] for row in rows], pa.string())}
        if self.edits:
            columns["edit"] = pa.array([row[1][0] for row in rows], pa.string())
            columns["strength"] = pa.array([row[1][1] for row in rows], pa.float32())
        columns["change"] = pa.array([row[2] for row in rows], pa.float32())
        columns["source_change"] = pa.array([row[3] for row in rows], pa.float32())
        self.collection.write_part(unit.index, pa.table(columns), failures, {})
        return {}


def _change(before: Tensor | None, now: Tensor) -> float | None:
    return None if before is None else float(frame_changes(torch.stack([before, now])))
