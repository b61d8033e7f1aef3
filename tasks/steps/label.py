"""``label``: score existing samples with another labeller, so that directions can be fitted on its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field

from ganinv.config import reread
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.labels import open_labeller
from ganinv.store import Plan, RowError, Unit, open_store, tensor_numpy
from tasks.codes import PLACES, CodesJob
from tasks.engine import Pools, default_device, provenance, run_units
from tasks.generator_check import check_generator
from tasks.pool import WorkerSpec
from tasks.scores import labeller_state, score_column, scores_of


class LabelJob(CodesJob):
    """Score ``samples/<samples>`` by ``labeller`` into ``labels/<name>``. A table of labels renders nothing.

    Args:
        source: ``latents`` scores renderings of the inverted images ``latents/<samples>`` instead of samples.
    """

    store: str
    name: str
    samples: str = "samples"
    source: Literal["samples", "latents"] = "samples"
    generator: str = EMBEDDED
    labeller: str
    unit_size: int = Field(500, ge=1)


def run_label(job: LabelJob, pools: Pools) -> dict[str, Any]:
    """Fill ``labels/<name>``. Returns counts and the collection's URL."""
    store = open_store(job.store)
    samples = store.collection(job.source, job.samples)
    generator, labeller = open_generator(job.generator), open_labeller(job.labeller)
    origin = samples.provenance()
    check_generator(origin, generator, samples.url)
    if job.source == "latents" and labeller.needs == "images":
        job.reader(store, samples, generator).check()
    config = job.model_dump(mode="json", exclude={"store", "name", "unit_size"} | PLACES)
    config |= {"samples_digest": origin["config_digest"]} | labeller_state(job.labeller, labeller)
    header = provenance(generator, labeller=labeller.identity, labeller_sha256=labeller.weights_sha256)
    plan = Plan.of("label", config, header, samples.read(["image_id"])["image_id"].to_pylist(), job.unit_size)
    spec, same = WorkerSpec(LabelWorker, {"job": job}), partial(reread, LabelJob)
    return run_units(
        store.collection("labels", job.name),
        plan,
        spec,
        pools,
        f"label {job.name}",
        gpu=labeller.needs == "images",
        made_of=[samples],
        grows=True,
        reread=same,
    )


class LabelWorker:
    """Renders stored samples and scores them."""

    def __init__(self, job: LabelJob) -> None:
        self.job = job
        store = open_store(job.store)
        self.samples = store.collection(job.source, job.samples)
        self.collection = store.collection("labels", job.name)
        self.generator = open_generator(job.generator, default_device())
        self.labeller = open_labeller(job.labeller).to(self.generator.device)
        self.reader = job.reader(store, self.samples, self.generator)

    @torch.inference_mode()
    def process(self, ids: Sequence[str]) -> list[Any]:
        rows: list[Any] = []
        for start in range(0, len(ids), 64):
            part = self.samples.read(ids=ids[start : start + 64])
            names = part["image_id"].to_pylist()
            scores = self._inversions(part, names) if self.job.source == "latents" else self._samples(part, names)
            rows += [(name, {key: values[i] for key, values in scores.items()}) for i, name in enumerate(names)]
        return rows

    def _samples(self, part: pa.Table, names: Sequence[str]) -> dict[str, np.ndarray]:
        w = torch.from_numpy(tensor_numpy(part["w"])).to(self.generator.device)
        psi = torch.from_numpy(part["truncation_psi"].to_numpy().copy()).to(w)[:, None, None]
        return scores_of(self.generator, self.labeller, w[:, None].expand(-1, self.generator.num_ws, -1), psi, names)

    def _inversions(self, part: pa.Table, names: Sequence[str]) -> dict[str, np.ndarray]:
        images = None
        if self.labeller.needs == "images":
            images = self.generator.render(self.reader.codes(part).to(self.generator.device))
        return {key: values.cpu().numpy() for key, values in self.labeller(images, names).items()}

    def commit(self, unit: Unit, rows: list[Any], failures: Sequence[RowError]) -> Mapping[str, Any]:
        rows.sort(key=lambda row: row[0])
        columns: dict[str, Any] = {"image_id": pa.array([row[0] for row in rows], pa.string())}
        for name in self.labeller.attributes:
            columns[f"score_{name}"] = score_column([row[1][name] for row in rows])
        self.collection.write_part(unit.index, pa.table(columns), failures, {})
        return {}
