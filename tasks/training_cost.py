"""Estimate the cost of a training before it begins, by taking two of its steps. Nothing is written."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ganinv.errors import ConfigError
from ganinv.methods.registry import PRODUCTS
from ganinv.store import open_store
from ganinv.training.batches import DataConfig, MixedBatches
from ganinv.training.trainer import Trainer
from tasks.engine import default_device
from tasks.pool.progress import format_duration
from tasks.steps.train_job import TrainJob


@dataclass(frozen=True)
class TrainingCost:
    """The cost of the remaining steps, on this machine with one worker.

    Args:
        images: number of images in these steps. passes: how often each image of the data set is used; None without a data set.
        memory: peak, in bytes: of the GPU, or of this process. checkpoint: bytes of one; two are kept.
    """

    collection: str
    device: str
    steps: int
    left: int
    images: int
    passes: float | None
    parameters: int
    step_seconds: float
    seconds: float
    memory: int
    checkpoint: int

    def line(self) -> str:
        """In one line, for people."""
        seen = "" if self.passes is None else f", {self.passes:.3g} times each of the data set's"
        return (
            f"{self.left} of {self.steps} steps on {self.images} images{seen}: about {format_duration(self.seconds)} on "
            f"{self.device} at {self.step_seconds:.2g} s a step, {self.memory / 2**30:.2g} GiB of memory, "
            f"{self.parameters / 1e6:.3g} million parameters, checkpoints of {self.checkpoint / 2**20:.3g} MiB"
        )


def training_cost(job: TrainJob) -> TrainingCost:
    """Measure it on generated images or noise: the cost of reading real ones is small in comparison.

    Raises:
        ConfigError: the recipe does not fit, or something that it needs is missing.
    """
    recipe, store, device = job.recipe, open_store(job.store), default_device()
    given = PRODUCTS[recipe.makes]().open(job.places, device)
    images = None if given.generator is not None else _AnyImages(recipe.resolution(given))
    try:
        batches = MixedBatches(recipe.data, given.generator, recipe.batch_size, images, device=given.device)
    except ConfigError:  # masks of real images
        batches = MixedBatches(DataConfig(sample_psi=recipe.data.sample_psi), given.generator, recipe.batch_size)
    trainer = Trainer(recipe, lambda: recipe.learner(given), batches)
    trainer.step()
    started = time.perf_counter()
    trainer.step()
    if device != "cpu":
        torch.cuda.synchronize()
    took = time.perf_counter() - started
    collection = store.collection("training", job.collection_name)
    done = len(collection.done()) if collection.exists() else 0
    left = max(0, recipe.steps - done * recipe.checkpoint_every)
    count = None if job.dataset is None else len(job.dataset.open().ids)
    real = left * recipe.batch_size * recipe.data.real_share
    return TrainingCost(
        collection=f"training/{job.collection_name}",
        device=device,
        steps=recipe.steps,
        left=left,
        images=left * recipe.batch_size,
        passes=None if not count else real / count,
        parameters=sum(p.numel() for p in trainer.learner.network.parameters() if p.requires_grad),
        step_seconds=took,
        seconds=took * left,
        memory=_peak(device),
        checkpoint=_bytes(trainer.state()),
    )


class _AnyImages:
    """A thousand images of noise, for learners that use only real images."""

    def __init__(self, resolution: int) -> None:
        self.resolution = resolution

    def __len__(self) -> int:
        return 1000

    def load(self, positions: Sequence[int]) -> tuple[Tensor, list[str]]:
        shape = (len(positions), 3, self.resolution, self.resolution)
        return torch.randint(256, shape, dtype=torch.uint8), [str(p) for p in positions]


def _peak(device: str) -> int:
    if device != "cpu":
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _bytes(state: object) -> int:
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, dict):
        return sum(_bytes(value) for value in state.values())
    return sum(_bytes(value) for value in state) if isinstance(state, list | tuple) else 0
