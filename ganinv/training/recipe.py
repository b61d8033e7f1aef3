"""A recipe: how one kind of inverter is trained. A YAML of ``configs/training`` is one, with its ``kind``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field
from torch import nn

from ganinv.config import StrictModel
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.terms import LossConfig
from ganinv.optim.configs import AnyOptimizer, MuonConfig
from ganinv.training.batches import DataConfig
from ganinv.training.learner import Learner


class Schedule(StrictModel):
    """The learning rates over a training."""

    warmup: int = Field(0, ge=0)
    """Steps over which they rise from zero."""
    rampdown: float = Field(0.3, ge=0, le=1)
    """Share of the steps, at the end, over which they fall to zero."""
    decay: float = Field(1.0, gt=0, le=1)
    """What they fall to by the end, by the same factor at every step; 1 leaves them."""

    def __call__(self, step: int, total: int) -> float:
        """The factor at step 0, 1, ... of ``total``."""
        up = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        left = (total - step) / total
        return float(min(up, left / self.rampdown if self.rampdown else 1.0, 1.0) * self.decay ** (step / total))


class Validation(StrictModel):
    """How a training is watched: reconstruction of held-out images, real and generated, that no step learns from."""

    every: int = Field(100, ge=1)
    """Steps between two looks."""
    images: int = Field(32, ge=2)
    """Half of them real, where there is a data set."""
    strip: int = Field(8, ge=1)
    """Of these, how many are drawn beside their reconstructions."""


class Recipe(StrictModel, ABC):
    """How one kind of inverter is trained; a method's file subclasses it and narrows ``kind``.

    ``inverter`` holds what the method's ``Config`` leaves open (widths, a backbone); sizes follow from the generator.
    """

    kind: str
    name: str = ""
    """What its inverter is called in the store unless the job says so; by default the kind."""
    steps: int = Field(1500, ge=1)
    batch_size: int = Field(16, ge=1)
    """Images of one step, of all workers together."""
    seed: int = 0
    inverter: Mapping[str, Any] = Field(default_factory=dict)
    trunk_weights: str | None = None
    """File of the network that a published backbone begins from: ArcFace's IR-SE-50, or torchvision's ResNet-34."""
    needed: Mapping[str, str] = Field(default_factory=dict)
    """Frozen inverters by role, each by name or URI, of a method that starts from others."""
    data: DataConfig = DataConfig()
    losses: LossConfig = LossConfig()
    optimizer: AnyOptimizer = MuonConfig()
    schedule: Schedule = Schedule()
    clip_norm: float | None = Field(None, gt=0)
    """Gradients whose norm over all parameters is larger are scaled down to it."""
    ema: float | None = Field(None, gt=0)
    """Half-life, in steps, of a running mean of the weights, which is then what is saved."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the forward passes; weights, optimiser and losses are float32."""
    validation: Validation = Validation()
    keep: Literal["best", "last"] = "best"
    """Which inverter is saved: the best of the validations, or the last; an editor that changes nothing validates best."""
    checkpoint_every: int = Field(50, ge=1)
    """Steps between two checkpoints: what a kill can cost."""

    def rate(self, step: int, total: int) -> float:
        """The factor of all learning rates at step 0, 1, ... of ``total``."""
        return self.schedule(step, total)

    @abstractmethod
    def build(self, generator: Generator, needed: Mapping[str, nn.Module], start: nn.Module | None) -> Learner:
        """The learner at its first step. Random weights come from torch's global stream, which the trainer seeds.

        Args:
            needed: frozen inverters by role.
            start: an inverter of this kind to go on from.
        """
