"""Generators in training, small enough for tests."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ganinv.generators.stylegan2 import Generator
from ganinv.training.batches import MixedBatches
from ganinv.training.gan import GanLearner, GanRecipe
from ganinv.training.product import Given
from ganinv.training.trainer import Trainer

TINY = {
    "size": 32,
    "channels": (16, 16, 8, 8),
    "z_dim": 8,
    "w_dim": 8,
    "mapping_layers": 1,
    "steps": 8,
    "batch_size": 8,
    "r1_every": 2,
    "style_mixing": 0.5,
    "validation": {"every": 4, "images": 16},
}


class Pictures:
    """uint8 images [N, 3, R, R] by position."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def load(self, positions: Sequence[int]) -> tuple[Tensor, list[str]]:
        return self.pixels[torch.tensor(positions)], [str(p) for p in positions]


def noise(count: int = 16, size: int = 32) -> Tensor:
    """uint8 [count, 3, size, size]."""
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def gan(
    pixels: Tensor | None = None, start: Generator | None = None, rank: int = 0, world: int = 1, **changes: Any
) -> Trainer:
    """A trainer of a small generator on images uint8 [N, 3, 32, 32]."""
    recipe = GanRecipe.model_validate({**TINY, **changes})
    given = Given(torch.device("cpu"), start=start)
    images = Pictures(noise(size=recipe.size) if pixels is None else pixels)
    batches = MixedBatches(recipe.data, None, recipe.batch_size, images)
    return Trainer(recipe, lambda: recipe.learner(given), batches, rank=rank, world=world)


def learner(trainer: Trainer) -> GanLearner:
    assert isinstance(trainer.learner, GanLearner)
    return trainer.learner


def through_a_file(trainer: Trainer) -> dict[str, Any]:
    """Its checkpoint, written and read."""
    file = io.BytesIO()
    torch.save(trainer.state(), file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)  # type: ignore[no-any-return]
