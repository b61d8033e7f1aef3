"""A recipe: how one kind of network is trained. A YAML of ``configs/training`` is one, with its ``kind``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field
from torch import nn

from ganinv.config import StrictModel
from ganinv.optim.configs import AnyOptimizer, MuonConfig
from ganinv.optim.muon import Optimizers
from ganinv.training.batches import DataConfig
from ganinv.training.learner import Learner
from ganinv.training.product import Given


class Schedule(StrictModel):
    """The learning rates over a training."""

    warmup: int = Field(0, ge=0)
    """Steps over which they rise from zero."""
    rampdown: float = Field(0.3, ge=0, le=1)
    """Share of the steps, at the end, over which they fall to zero."""
    floor: float = Field(0.0, ge=0, le=1)
    """Lowest value, as a share of the initial rate."""
    decay: float = Field(1.0, gt=0, le=1)
    """Factor by which they have decayed exponentially at the end; 1 for no decay."""

    def __call__(self, step: int, total: int) -> float:
        """The factor at step 0, 1, ... of ``total``."""
        up = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        left = (total - step) / total
        down = max(left / self.rampdown if self.rampdown else 1.0, self.floor)
        return float(min(up, down, 1.0) * self.decay ** (step / total))


class Validation(StrictModel):
    """How a training is watched: by what the learner is judged by, on images that are held out for it."""

    every: int = Field(100, ge=1)
    """Steps between two looks."""
    images: int = Field(32, ge=2)
    """Of an inverter's half are real, where there is a data set."""
    strip: int = Field(8, ge=1)
    """How many of them are drawn beside their reconstructions."""
    stop_at: float | None = Field(None, gt=1)
    """Stop when the error exceeds its best by this factor, and by more than chance explains; None never stops."""


class Recipe(StrictModel, ABC):
    """How one kind of network is trained; a subclass narrows ``kind`` and says which learner.

    Attributes:
        makes: its product, by its name in ``PRODUCTS``, which determines the folder in the store and how it is written.
        holds_out: whether validation images are excluded from training.
    """

    makes: ClassVar[str]
    holds_out: ClassVar[bool] = True

    kind: str
    name: str = ""
    """Name of the product in the store, unless the job names it; by default the kind."""
    steps: int = Field(1500, ge=1)
    batch_size: int = Field(16, ge=1)
    """Images of one step, of all workers together."""
    seed: int = 0
    needed: Mapping[str, str] = Field(default_factory=dict)
    """Frozen networks that the method depends on, by role, each a name or URI."""
    data: DataConfig = DataConfig()
    optimizer: AnyOptimizer = MuonConfig()
    schedule: Schedule = Schedule()
    clip_norm: float | None = Field(None, gt=0)
    """Maximum norm of the gradients over all parameters; larger gradients are scaled down."""
    ema: float | None = Field(None, gt=0)
    """Half-life, in steps, of a running mean of the weights, which is then saved instead of the weights."""
    ema_rampup: float = Field(0.1, gt=0)
    """The half-life is at most this share of the steps so far."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the forward passes; weights, optimiser and losses are float32."""
    validation: Validation = Validation()
    keep: Literal["best", "last"] = "best"
    """Which state is saved: the best of the validations, or the last; an editor that changes nothing validates best."""
    checkpoint_every: int = Field(50, ge=1)
    """Steps between two checkpoints: what a kill can cost."""

    @abstractmethod
    def learner(self, given: Given) -> Learner:
        """The learner at its first step. Random weights come from torch's global stream, which the trainer seeds."""

    def rate(self, step: int, total: int) -> float:
        """The factor of all learning rates at step 0, 1, ... of ``total``."""
        return self.schedule(step, total)

    def phase(self, step: int) -> int:
        """The number of the phase at step 0, 1, ...; each phase has its own optimiser and running mean."""
        return 0

    def optimizers(self, network: nn.Module, phase: int) -> Optimizers:
        """What trains ``network`` in a phase."""
        return self.optimizer.build(network)

    def resolution(self, given: Given) -> int:
        """Height and width of its images, in pixels."""
        return given.known_generator.resolution

    def check_images(self, count: int | None, sides: Callable[[], Sequence[int]] = list) -> None:
        """Check that it can learn from a data set of this number of images; None means no data set.

        Args:
            sides: reads some of the images and returns their smaller sides, in pixels.

        Raises:
            ConfigError: it cannot.
        """
