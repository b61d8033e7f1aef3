"""``sample``: latents by seed, each rendered once and scored by a labeller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field

from ganinv.codes.code import Code
from ganinv.config import StrictModel, reread
from ganinv.directions.measuring.effects import rendering_batch
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.generators.sampling import sample_id, sample_index, sample_z
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import Labeller, labeller_names, open_labeller
from ganinv.store import Plan, RowError, Unit, open_store, tensor_array
from tasks.engine import Pools, default_device, drive, provenance
from tasks.pool import WorkerSpec


class SampleJob(StrictModel):
    """Sample ``count`` latents. ``truncation_psi`` acts on the rendering that is scored; ``w`` is stored without it."""

    store: str
    name: str = "samples"
    generator: str = EMBEDDED
    labeller: str = "portraits-64"
    count: int = Field(4000, ge=1)
    seed: int = 0
    truncation_psi: float = Field(0.8, ge=0)
    unit_size: int = Field(500, ge=1)


def run_sample(job: SampleJob, pools: Pools) -> dict[str, Any]:
    """Fill ``samples/<name>``. Returns counts and the collection's URL."""
    generator, labeller = open_generator(job.generator), open_labeller(job.labeller)
    config = job.model_dump(mode="json", exclude={"store", "name", "unit_size"})
    config |= weights_of(job.labeller, labeller)
    origin = provenance(generator, labeller=labeller.identity, labeller_sha256=labeller.weights_sha256, seed=job.seed)
    plan = Plan.of("sample", config, origin, map(sample_id, range(job.count)), job.unit_size)
    collection = open_store(job.store).samples[job.name]
    spec = WorkerSpec(SampleWorker, {"job": job})
    return drive(collection, plan, spec, pools, "sample", reread=partial(reread, SampleJob))


def weights_of(name: str, labeller: Labeller) -> dict[str, Any]:
    """What a plan must know of a labeller beside its name: a file of the user's may hold another one tomorrow."""
    return {} if name in labeller_names() else {"labeller_provenance": labeller.provenance}


def score_array(values: Sequence[Any]) -> pa.Array:
    """A column of scores; a missing one (NaN) is null, so that Parquet's own validity says which are there."""
    return pa.array(np.asarray(values, dtype=np.float32), pa.float32(), from_pandas=True)


def score(
    generator: Generator, labeller: Labeller, w: torch.Tensor, psi: float | torch.Tensor, ids: Sequence[str]
) -> dict[str, np.ndarray]:
    """Scores of w [B, num_ws, w_dim], rendered with truncation ``psi`` if the labeller needs images."""
    images = None
    if labeller.needs == "images":
        code = Code(w=generator.w_mean.lerp(w, torch.as_tensor(psi, device=w.device)))
        images = generator.render(code, rendering_batch(generator))
    return {name: values.cpu().numpy() for name, values in labeller(images, ids).items()}


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
            z = sample_z(self.job.seed, [sample_index(i) for i in batch], self.generator.z_dim)
            w = self.generator.map(z.to(self.generator.device))
            scores = score(self.generator, self.labeller, w, self.job.truncation_psi, batch)
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
        for name in self.labeller.attributes:
            columns[f"score_{name}"] = score_array([row[2][name] for row in rows])
        self.collection.write_part(unit.index, pa.table(columns), failures, {})
        return {}
