"""``train``: the e4e encoder, in units of some steps. A checkpoint per unit, so that a killed run loses one unit at most."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from ganinv.config import StrictModel, digest, reread
from ganinv.errors import ConfigError
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.e4e import E4e
from ganinv.methods.files import open_inverter, save_inverter
from ganinv.store import Plan, RowError, Unit, open_store
from ganinv.training.e4e import E4eTrainer, E4eTrainingConfig
from tasks.engine import Pools, default_device, provenance, run_units
from tasks.pool import WorkerSpec
from tasks.sources import DatasetRef


class TrainJob(StrictModel):
    """Train an encoder for ``generator`` on generated images, and on real ones when ``dataset`` is given.

    Args:
        start: an encoder to go on from (``e4e``: the one that ships); None trains from scratch.
    """

    store: str
    name: str = "e4e"
    generator: str = EMBEDDED
    dataset: DatasetRef | None = None
    start: str | None = None
    training: E4eTrainingConfig = E4eTrainingConfig()
    unit_steps: int = Field(20, ge=1)

    @property
    def encoder_url(self) -> str:
        """Where the trained encoder is."""
        return f"{open_store(self.store).url}/encoders/{self.name}"


class TrainingStopped(ConfigError):
    """The training cannot go on as configured: it diverged, or its checkpoint is gone."""


def run_train(job: TrainJob, pools: Pools) -> dict[str, Any]:
    """Train and save the encoder; ``training/<name>`` holds the losses of every step, TensorBoard files beside it."""
    generator = open_generator(job.generator)
    config = job.model_dump(mode="json", exclude={"store", "name", "unit_steps", "dataset"})
    config["dataset"] = job.dataset.model_dump(mode="json") if job.dataset else None
    if job.start:
        config["start"] = _start(job.start, generator).fingerprint
    if job.dataset:  # on other images it is another training, and half of one would mix both
        config["images"] = digest(job.dataset.open().ids)
    ids = [step_id(step) for step in range(1, job.training.steps + 1)]
    origin = provenance(generator, encoder=job.name, distance_name=job.training.distance, seed=job.training.seed)
    plan = Plan.of("train", config, origin, ids, job.unit_steps)
    collection = open_store(job.store).collection("training", job.name)

    def same(known: Mapping[str, Any]) -> dict[str, Any]:
        images = {"images": config["images"]} if "images" in config else {}  # an older version did not note them
        return reread(TrainJob, {**images, **known})

    spec = WorkerSpec(TrainWorker, {"job": job})
    result = run_units(collection, plan, spec, pools, f"train {job.name} (steps)", sequential=True, reread=same)
    return result | {"encoder": job.encoder_url}


def _start(uri: str, generator: Generator) -> E4e:
    opened = open_inverter(uri, generator=generator)
    if not isinstance(opened, E4e):
        raise ConfigError(f"{uri} is a {opened.cfg.kind}; expected an e4e encoder to go on from")
    return opened


def step_id(step: int) -> str:
    return f"step-{step:07d}"


class TrainWorker:
    """Trains in a single slot, since every unit goes on from the one before it."""

    def __init__(self, job: TrainJob) -> None:
        self.job = job
        store = open_store(job.store)
        self.objects = store.objects
        self.collection = store.collection("training", job.name)
        self.generator = open_generator(job.generator, default_device())
        start = _start(job.start, self.generator) if job.start else None
        self.trainer = E4eTrainer(job.training, self.generator, self._images(), start)
        self._load_latest()

    def _images(self) -> Tensor:
        """All real images as uint8: small sets are read once and kept."""
        size = self.generator.resolution
        if self.job.dataset is None:
            return torch.empty((0, 3, size, size), dtype=torch.uint8)
        dataset = self.job.dataset.open()
        loaded = dataset.load(dataset.ids, size)
        return ((loaded.images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    def process(self, ids: Sequence[str]) -> list[Any]:
        first = int(ids[0].removeprefix("step-"))
        if self.trainer.steps_done != first - 1:
            self._load_latest()
        if self.trainer.steps_done != first - 1:
            raise TrainingStopped(
                f"training {self.job.name!r} stands at step {self.trainer.steps_done} and was asked for step {first}: "
                "its checkpoint is missing; remove the training collection to train again"
            )
        rows: list[Any] = []
        for image_id in ids:
            losses = self.trainer.step()
            if not torch.isfinite(torch.tensor(losses["total"])):
                raise TrainingStopped(
                    f"the loss is not finite at {image_id}; lower training.lr ({self.job.training.lr})"
                )
            rows.append((image_id, losses))
        return rows

    def commit(self, unit: Unit, rows: list[Any], failures: Sequence[RowError]) -> Mapping[str, Any]:
        buffer = io.BytesIO()
        torch.save(self.trainer.state(), buffer)
        folder = f"training/{self.job.name}"
        self.objects.put(f"{folder}/checkpoint-{unit.index:05d}.pt", buffer.getvalue())
        if unit.index >= 2:
            self.objects.remove(f"{folder}/checkpoint-{unit.index - 2:05d}.pt")
        self._log(rows)
        if self.trainer.steps_done == self.job.training.steps:
            save_inverter(
                self.trainer.encoder,
                self.job.encoder_url,
                generator=self.generator,
                extra={"training": self.job.training.model_dump(mode="json"), "steps": self.trainer.steps_done},
            )
        names = sorted({name for _, losses in rows for name in losses})
        columns = {name: pa.array([losses.get(name) for _, losses in rows], pa.float32()) for name in names}
        ids = pa.array([image_id for image_id, _ in rows], pa.string())
        self.collection.write_part(unit.index, pa.table({"image_id": ids} | columns), failures, {})
        return {"total": rows[-1][1]["total"] if rows else None}

    def _log(self, rows: list[Any]) -> None:
        """TensorBoard reads files, so its folder exists for local stores; the Parquet losses are everywhere."""
        if not self.objects.is_local:
            return
        with SummaryWriter(str(Path(self.collection.url) / "tensorboard"), filename_suffix=f".{rows[0][0]}") as writer:
            for _, losses in rows:
                for name, value in losses.items():
                    writer.add_scalar(name, value, int(losses["step"]))

    def _load_latest(self) -> None:
        """Go on from the checkpoint of the last unit that is done."""
        done = self.collection.done() if self.collection.exists() else set()
        if not done:
            return
        data = self.objects.read_if_there(f"training/{self.job.name}/checkpoint-{max(done):05d}.pt")
        if data is not None:
            self.trainer.load(torch.load(io.BytesIO(data), weights_only=True))
