"""One worker of a training: from checkpoint to checkpoint, in this process or as one of several. Does not know Ray."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from ganinv.codes.code import Code
from ganinv.data.index import SourceIndex
from ganinv.data.png import png_of_pixels
from ganinv.data.source import Place
from ganinv.data.stream import StreamedImages
from ganinv.methods.registry import PRODUCTS
from ganinv.store import Unit, open_store
from ganinv.training.batches import Images, MixedBatches
from ganinv.training.learner import Look
from ganinv.training.step import Step
from ganinv.training.trainer import Trainer, TrainingStopped
from tasks.steps.train_job import TrainJob

KEPT = 2
"""Number of checkpoints to keep."""
CHANCE = 3.0
"""A validation counts as worse only if it is worse by this many of its standard deviations."""


@dataclass(frozen=True)
class Stretch:
    """The results of the steps up to one checkpoint."""

    index: int
    steps: int
    seconds: float
    cpu_seconds: float
    total: float


class TrainingWorker:
    """Trains from the last checkpoint on.

    The first of several workers writes: a checkpoint, then the losses of its steps as a part of ``training/<name>``, whose
    existence means that these steps are done.

    Args:
        device: where it computes. rank, world: which worker of how many.
    """

    def __init__(self, job: TrainJob, device: str, rank: int = 0, world: int = 1) -> None:
        self.job, self.recipe, self.rank, self.world = job, job.recipe, rank, world
        self.store = open_store(job.store)
        self.collection = self.store.collection("training", job.collection_name)
        self.folder = self.collection.path
        self.product = PRODUCTS[job.recipe.makes]()
        self.given = self.product.open(job.places, device)
        self.trainer = Trainer(job.recipe, lambda: job.recipe.learner(self.given), self.batches, rank=rank, world=world)
        self._load_latest()

    def run(self, should_stop: Callable[[], bool], on_stretch: Callable[[Stretch], None]) -> None:
        """Train to the end; ``should_stop`` is asked between two checkpoints, by every worker."""
        done = self.collection.done()
        for unit in self.collection.plan().units:
            first, last = stretch_of(unit.ids[0])
            if unit.index in done:
                continue
            if should_stop():
                return
            if self.trainer.steps_done != first - 1:
                raise TrainingStopped(
                    f"training {self.job.collection_name!r} stands at step {self.trainer.steps_done} and was to resume from "
                    f"step {first}: its checkpoint is missing. Remove the training collection to train again"
                )
            started, spent = time.perf_counter(), time.process_time()
            rows = [self._step() for _ in range(first, last + 1)]
            if self.rank == 0:
                self._write(unit, rows)
            took = time.perf_counter() - started
            on_stretch(
                Stretch(unit.index, last - first + 1, took, time.process_time() - spent, float(rows[-1]["total"]))
            )

    def _step(self) -> dict[str, float]:
        losses = self.trainer.step()
        done, validation = self.trainer.steps_done, self.recipe.validation
        if self.rank == 0 and (done % validation.every == 0 or done == self.recipe.steps):
            losses["validation"] = self._validate()
        return losses

    def _validate(self) -> float:
        look = self.trainer.validate(self.held_out_seen, self.held_out)
        objects, done, best = self.collection.objects, self.trainer.steps_done, self.trainer.best
        picture = strip(*(row[: self.recipe.validation.strip] for row in look.rows))
        objects.put(f"{self.folder}/strips/step-{done:08d}.png", picture)
        self._check_course(look)
        if look.error <= best or self.recipe.keep == "last":
            self.trainer.best = min(look.error, best)
            record = {
                "recipe": self.recipe.model_dump(mode="json"),
                "steps": done,
                f"validation_{look.measure}": look.error,
            }
            with self.trainer.finished():
                files = self.product.pack(self.trainer.learner, self.given, self.job.collection_name, record)
            for name, data in files.items():  # of the best step so far; config.json last
                objects.put(f"{self.folder}/best/{name}", data)
        return look.error

    def _check_course(self, look: Look) -> None:
        """Stop a training that diverges.

        Raises:
            TrainingStopped: the error exceeds its best by more than the recipe allows (``stop_at``).
        """
        limit, best = self.recipe.validation.stop_at, self.trainer.best
        if limit is None or not math.isfinite(best) or look.error <= limit * best:
            return
        if look.error - best > CHANCE * look.noise:
            raise TrainingStopped(
                f"the training diverges: {look.measure} at step {self.trainer.steps_done} is {look.error:.4g}, more than "
                f"{limit:g} times its best, {best:.4g}. The {self.product.noun} of that step stays in "
                f"{self.collection.url}/best. Lower the learning rates and train under another name, or raise validation.stop_at"
            )

    @cached_property
    def held_out(self) -> Tensor:
        """Validation images [N, C, R, R] in [-1, 1]: real ones and samples, shuffled together."""
        rng = Step(0, 1, self.recipe.seed).stream("validation")
        parts, g = [], self.given.generator
        if self.images is not None and self.held_out_positions:
            real, _ = self.images.load(sorted(self.held_out_positions))
            parts.append(real.to(self.given.device).float() / 127.5 - 1)
        count = self.recipe.validation.images - sum(len(part) for part in parts)
        if g is not None:
            z = torch.randn(count, g.z_dim, generator=rng).to(g.device)
            with torch.no_grad():
                w = g.map_all(z, truncation_psi=self.recipe.data.sample_psi)
                parts.append(g.synthesize(Code(w=w)).clamp(-1, 1))
        images = torch.cat(parts)
        return images[torch.randperm(len(images), generator=rng)]

    @cached_property
    def held_out_seen(self) -> Tensor:
        """The same as the inverter sees them: degraded if the recipe says so."""
        if self.recipe.data.degrade is None:
            return self.held_out
        return self.batches.degraded(self.held_out, Step(0, 1, self.recipe.seed))

    @cached_property
    def images(self) -> Images | None:
        """The real images, through the index that the run wrote."""
        if self.job.dataset is None:
            return None
        index = SourceIndex(Place(self.job.dataset.url), self.collection.objects, self.folder)
        return StreamedImages(index, self.recipe.resolution(self.given))

    @cached_property
    def held_out_positions(self) -> frozenset[int]:
        """Half of the validation's images, but at most a tenth of the data set; all of them where none are kept from training."""
        if self.images is None:
            return frozenset()
        size, wanted = len(self.images), self.recipe.validation.images
        rng = Step(0, 1, self.recipe.seed).stream("held out")
        count = min(wanted // 2, size // 10) if self.recipe.holds_out else min(wanted, size)
        return frozenset(torch.randperm(size, generator=rng)[:count].tolist())

    @cached_property
    def batches(self) -> MixedBatches:
        kept = self.held_out_positions if self.recipe.holds_out else frozenset[int]()
        given = self.given
        return MixedBatches(
            self.recipe.data, given.generator, self.recipe.batch_size, self.images, kept, device=given.device
        )

    def _write(self, unit: Unit, rows: Sequence[dict[str, float]]) -> None:
        buffer = io.BytesIO()
        torch.save(self.trainer.state(), buffer)
        self.collection.objects.put(checkpoint_path(self.folder, unit.index), buffer.getvalue())
        self._log(rows)
        names = sorted({name for losses in rows for name in losses} - {"step"})
        table = pa.table(
            {
                "image_id": pa.array([unit.ids[0]] * len(rows), pa.string()),
                "step": pa.array([int(losses["step"]) for losses in rows], pa.int64()),
                **{name: pa.array([losses.get(name) for losses in rows], pa.float32()) for name in names},
            }
        )
        self.collection.write_part(unit.index, table, [], {})
        if unit.index >= KEPT:
            self.collection.objects.remove(checkpoint_path(self.folder, unit.index - KEPT))

    def _log(self, rows: Sequence[dict[str, float]]) -> None:
        """TensorBoard reads files, so its folder exists for local stores; the Parquet losses are everywhere."""
        if not self.collection.objects.is_local:
            return
        folder = str(Path(self.collection.url) / "tensorboard")
        with SummaryWriter(folder, filename_suffix=f".{int(rows[0]['step']):08d}") as writer:
            for losses in rows:
                for name, value in losses.items():
                    writer.add_scalar(name, value, int(losses["step"]))

    def _load_latest(self) -> None:
        """Continue from the checkpoint of the last stretch that is done."""
        done = self.collection.done()
        if not done:
            return
        data = self.collection.objects.read_if_there(checkpoint_path(self.folder, max(done)))
        if data is not None:
            self.trainer.load(torch.load(io.BytesIO(data), weights_only=True, map_location=self.given.device))


def stretch_id(first: int, last: int) -> str:
    """The id of the steps from ``first`` to ``last``, counted from 1: what a plan lists in place of images."""
    return f"steps-{first:08d}-{last:08d}"


def stretch_of(name: str) -> tuple[int, int]:
    """The first and last step of a stretch."""
    _, first, last = name.split("-")
    return int(first), int(last)


def checkpoint_path(folder: str, index: int) -> str:
    return f"{folder}/checkpoint-{index:05d}.pt"


def strip(*rows: Tensor) -> bytes:
    """Rows of images [N, C, R, R] in [-1, 1], one below the other, as PNG: what was wanted, what was seen where that differs, and
    what was made."""
    lines = [torch.cat(list(row[:, :3].cpu()), dim=2) for row in rows]
    grid = ((torch.cat(lines, dim=1).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return png_of_pixels(grid)


FAILURE, STOP = "_failure.json", "_stop"
"""Objects beside a training: why a worker stopped on purpose; that the run is to stop at its next checkpoint."""
