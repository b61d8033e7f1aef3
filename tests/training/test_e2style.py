"""E2Style's training: one stage at a time, the others as they are to the bit."""

from __future__ import annotations

import pytest
import torch

from ganinv.config import validate
from ganinv.errors import ConfigError
from ganinv.methods.e2style import E2StyleRecipe
from ganinv.training.batches import MixedBatches
from ganinv.training.trainer import Trainer
from tests.tiny import tiny_generator

RECIPE = {
    "kind": "e2style",
    "steps": 6,
    "batch_size": 2,
    "shares": [2, 2, 2],
    "inverter": {"base_channels": 8, "pyramid_channels": 8},
    "losses": {"distance": 0.0},
    "schedule": {"warmup": 2, "rampdown": 0.0},
}


@pytest.mark.seconds
def test_stages_learn_one_after_the_other() -> None:
    g, recipe = tiny_generator(), validate(E2StyleRecipe, RECIPE, "test")
    trainer = Trainer(recipe, lambda: recipe.build(g, {}, None), MixedBatches(recipe.data, g, 2))
    network = trainer.learner.network
    for step in range(6):
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        assert trainer.step()["stage"] == step // 2
        moved = {n.split(".")[1] for n, t in network.state_dict().items() if not torch.equal(t, before[n])}
        assert moved == {str(step // 2)}


def test_the_schedule_runs_in_each_stage() -> None:
    recipe = validate(E2StyleRecipe, RECIPE, "test")
    assert [recipe.rate(step, 6) for step in range(6)] == [0.5, 1.0] * 3
    assert [recipe.stage_at(step, 6)[0] for step in range(6)] == [0, 0, 1, 1, 2, 2]


def test_shares_are_of_as_many_stages_as_there_are() -> None:
    recipe = validate(E2StyleRecipe, RECIPE | {"shares": [1, 1]}, "test")
    with pytest.raises(ConfigError, match="shares must say for each of the 3 stages"):
        recipe.build(tiny_generator(), {}, None)
