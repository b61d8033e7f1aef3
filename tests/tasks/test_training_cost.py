"""What a training says it costs, from two of its steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganinv.store import open_store
from tasks.steps.train_job import TrainJob
from tasks.training_cost import training_cost
from tests.contracts.inverters import World, recipe_of


@pytest.mark.seconds
def test_two_steps_say_what_all_cost(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert world.generator.resolution == 32
    recipe = recipe_of("psp", steps=100, batch_size=8).model_copy(update={"checkpoint_every": 10})
    job = TrainJob(
        store=str(tmp_path / "store"),
        recipe=recipe,
        generator=str(tmp_path / "generator"),
        dataset={"url": world.files},  # type: ignore[arg-type]
    )
    cost = training_cost(job)
    assert (cost.left, cost.images, cost.passes) == (100, 800, 100.0)
    assert cost.seconds == pytest.approx(100 * cost.step_seconds)
    assert cost.memory > 50 * 2**20
    weights = 4 * cost.parameters
    assert 1.5 * weights < cost.checkpoint < 4 * weights
    assert "100 of 100 steps on 800 images, 100 times each" in cost.line()
    assert not open_store(job.store).collection("training", "psp").exists()
