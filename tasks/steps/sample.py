"""``sample``: latents by seed, each rendered once and scored by a labeller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field

from ganinv.config import StrictModel, reread
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.generators.sampling import check_classes, class_vectors, sample_id, sample_index, sample_z
from ganinv.labels import open_labeller
from ganinv.store import Plan, RowError, Unit, open_store, tensor_array
from tasks.engine import Pools, default_device, provenance, run_units
from tasks.pool import WorkerSpec
from tasks.scores import labeller_state, score_column, scores_of

MOST = 10_000_000
"""Samples of one collection: a plan has the id of each in memory, some hundred bytes."""


class SampleJob(StrictModel):
    """Sample ``count`` latents. ``truncation_psi`` acts on the rendering that is scored; ``w`` is stored without it.

    Args:
        classes: for a conditional generator, the classes to sample in turn; all of them by default.
    """

    store: str
    name: str = "samples"
    generator: str = EMBEDDED
    labeller: str = "portraits-64"
    count: int = Field(4000, ge=1, le=MOST)
    seed: int = 0
    truncation_psi: float = Field(0.8, ge=0)
    classes: tuple[int, ...] = ()
    unit_size: int = Field(500, ge=1)


def run_sample(job: SampleJob, pools: Pools) -> dict[str, Any]:
    """Fill ``samples/<name>``. Returns counts and the collection's URL."""
    generator, labeller = open_generator(job.generator), open_labeller(job.labeller)
    check_classes(generator.c_dim, job.classes)
    config = job.model_dump(mode="json", exclude={"store", "name", "unit_size"})
    if not job.classes:  # runs from before there was a choice have no such key, and go on
        del config["classes"]
    config |= labeller_state(job.labeller, labeller)
    origin = provenance(generator, labeller=labeller.identity, labeller_sha256=labeller.weights_sha256, seed=job.seed)
    plan = Plan.of("sample", config, origin, map(sample_id, range(job.count)), job.unit_size)
    collection = open_store(job.store).samples[job.name]
    spec = WorkerSpec(SampleWorker, {"job": job})
    return run_units(collection, plan, spec, pools, "sample", reread=partial(reread, SampleJob))


class SampleWorker:
    """Maps, renders and scores samples."""

    def __init__(self, job: SampleJob) -> None:
        self.job = job
        self.collection = open_store(job.store).samples[job.name]
        self.generator = open_generator(job.generator, default_device())
        self.labeller = open_labeller(job.labeller).to(self.generator.device)

    @torch.inference_mode()
    def process(self, ids: Sequence[str]) -> list[Any]:
        rows: list[Any] = []
        for start in range(0, len(ids), 64):
            batch = ids[start : start + 64]
            indices = [sample_index(i) for i in batch]
            z = sample_z(self.job.seed, indices, self.generator.z_dim)
            c = class_vectors(self.generator.c_dim, indices, self.job.classes)
            device = self.generator.device
            w = self.generator.map(z.to(device), None if c is None else c.to(device))
            scores = scores_of(self.generator, self.labeller, w, self.job.truncation_psi, batch)
            latents = w[:, 0].cpu().numpy()
            rows += [(i, latents[k], {n: s[k] for n, s in scores.items()}) for k, i in enumerate(batch)]
        return rows

    def commit(self, unit: Unit, rows: list[Any], failures: Sequence[RowError]) -> Mapping[str, Any]:
        rows.sort(key=lambda row: row[0])
        columns: dict[str, Any] = {
            "image_id": pa.array([row[0] for row in rows], pa.string()),
            "seed": pa.array([sample_index(row[0]) for row in rows], pa.int64()),
            "w": tensor_array(np.stack([row[1] for row in rows]) if rows else np.empty((0, self.generator.w_dim))),
            "truncation_psi": pa.array([self.job.truncation_psi] * len(rows), pa.float32()),
        }
        if self.generator.c_dim:
            chosen = self.job.classes or range(self.generator.c_dim)
            numbers = [chosen[sample_index(row[0]) % len(chosen)] for row in rows]
            columns["class"] = pa.array(numbers, pa.int32())
        for name in self.labeller.attributes:
            columns[f"score_{name}"] = score_column([row[2][name] for row in rows])
        self.collection.write_part(unit.index, pa.table(columns), failures, {})
        return {}
