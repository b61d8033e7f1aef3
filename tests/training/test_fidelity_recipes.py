"""The papers' own recipes of the methods of high fidelity take two steps, and leave alone what the papers freeze.

On a narrow generator of 64 pixels; AlexNet has random weights, and stands for VGG as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ganinv.generators.discriminator import Discriminator
from ganinv.generators.stylegan2 import Generator, GeneratorConfig
from ganinv.methods.base import Inverter
from ganinv.methods.psp import Psp, PspConfig
from ganinv.methods.registry import INVERTERS, load_recipe
from ganinv.training.batches import MixedBatches
from ganinv.training.trainer import Trainer
from tests.contracts.inverters import disturbed
from tests.losses.vgg_file import random_alexnet, write_hub

RECIPES: dict[str, dict[str, Any]] = {
    "ffhq-1024-hfgi": {"inverter.input_height": 64, "inverter.input_width": 64},
    "ffhq-1024-hyperstyle": {"passes": 2},
    # 512 channels are what it cuts its constant from; scenes have a discriminator
    "ffhq-1024-padinv": {
        "inverter.relative": True,
        "inverter.encoder.resolution": 64,
        "adversarial": 0.03,
        "critic.r1_every": 1,
    },
    "ffhq-1024-sam": {
        "inverter.sites": ["block[2]", "block[4]"],
        "optimised.steps": 2,
        "losses.distance_name": "lpips-alex",
    },
}
"""Name -> what the test's machine cannot do, or a generator of 64 pixels does not have."""


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(0)
    channels = (8,) * 5
    g = Generator(GeneratorConfig(resolution=64, channels=channels, z_dim=512, w_dim=512, mapping_layers=2))
    g.discriminator = Discriminator(64, channels)
    g.measure_w(500)
    return g.eval().requires_grad_(False)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_two_steps(name: str, generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_hub(tmp_path, random_alexnet(), "alexnet-owt-7be5be79.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    few = {"batch_size": 2, "steps": 2, "losses.identity": 0.0}
    recipe = load_recipe(name, {**few, **RECIPES[name]})
    small = PspConfig.for_generator(generator, {"base_channels": 8, "pyramid_channels": 8})
    encoder = disturbed(Psp(PspConfig.model_validate(small), generator), 1)
    needed: dict[str, Inverter] = dict.fromkeys(INVERTERS[recipe.kind].needs, encoder)
    batches = MixedBatches(recipe.data, generator, recipe.batch_size)
    trainer = Trainer(recipe, lambda: recipe.build(generator, needed, None), batches)
    before = {n: t.clone() for n, t in trainer.learner.network.state_dict().items()}
    frozen = (generator.fingerprint, encoder.fingerprint)
    curve = [trainer.step() for _ in range(2)]
    assert all(torch.isfinite(torch.tensor(list(losses.values()))).all() for losses in curve)
    moved = [n for n, t in trainer.learner.network.named_parameters() if not torch.equal(t, before[n])]
    assert moved
    assert (generator.fingerprint, encoder.fingerprint) == frozen
