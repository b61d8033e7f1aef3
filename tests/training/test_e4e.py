"""e4e: the network's stages, its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ganinv.errors import GeneratorMismatch, WeightsRefused
from ganinv.methods.e4e import E4e, E4eConfig, E4eRecipe
from ganinv.methods.files import open_inverter, save_inverter
from ganinv.training.batches import MixedBatches
from ganinv.training.players import LatentPool
from ganinv.training.trainer import Trainer
from tests.tiny import tiny_generator


def encoder() -> E4e:
    torch.manual_seed(0)
    e = E4e(E4eConfig(resolution=64, num_ws=10, w_dim=16, base_channels=8, pyramid_channels=8))
    for head in e.heads:
        torch.nn.init.normal_(head.linear.weight)
    return e


def test_rows_up_to_the_stage_have_deltas() -> None:
    e, x = encoder(), torch.randn(2, 3, 64, 64)
    for stage in (0, 3, 9):
        e.stage = stage
        w = e.latents(x)
        same = [(w[:, i] == w[:, 0]).all() for i in range(10)]
        assert all(same[stage + 1 :])
        assert not any(same[1 : stage + 1])


def test_finer_maps_learn_only_from_their_stage_on() -> None:
    e, x = encoder(), torch.randn(2, 3, 64, 64)
    for stage, medium, fine in ((2, False, False), (3, True, False), (7, True, True)):
        e.zero_grad(set_to_none=True)
        e.stage = stage
        e.latents(x).square().sum().backward()
        assert (e.backbone.lateral["16"].weight.grad is not None) == medium
        assert (e.backbone.lateral["32"].weight.grad is not None) == fine


def test_images_do_not_depend_on_their_batch() -> None:
    e, x = encoder().eval(), torch.randn(3, 3, 64, 64)
    torch.testing.assert_close(e.latents(x)[1:2], e.latents(x[1:2]), atol=1e-5, rtol=1e-4)


def test_an_untrained_encoder_gives_the_mean_latent() -> None:
    e = E4e(E4eConfig(resolution=64, num_ws=10, w_dim=16))
    e.latent_avg.copy_(torch.arange(16.0))
    assert torch.equal(e(torch.randn(2, 3, 64, 64)).w, torch.arange(16.0).expand(2, 10, 16))


@pytest.mark.seconds
def test_progressive_schedule() -> None:
    g = tiny_generator()
    recipe = E4eRecipe(steps=12, batch_size=4, progressive_start=4, progressive_every=2, losses={"distance": 0})
    trainer = Trainer(recipe, lambda: recipe.build(g, {}, None), MixedBatches(recipe.data, g, 4))
    assert [int(trainer.step()["stage"]) for _ in range(12)] == [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    finetuning = Trainer(recipe, lambda: recipe.build(g, {}, trainer.learner.network), MixedBatches(recipe.data, g, 4))
    assert finetuning.step()["stage"] == g.num_ws - 1


def test_latent_pool() -> None:
    pool, rng = LatentPool(50), torch.Generator().manual_seed(0)
    first = torch.arange(50.0)[:, None]
    assert torch.equal(pool.query(first, rng), first)
    later = pool.query(torch.arange(100.0, 300.0)[:, None], rng)
    old = (later[:, 0] != torch.arange(100.0, 300.0)).float().mean()
    assert 0.35 < old < 0.65


def test_inverter_folder(tmp_path: Path) -> None:
    g = tiny_generator()
    e = E4e(E4eConfig(resolution=32, num_ws=g.num_ws, w_dim=g.w_dim))
    save_inverter(e, str(tmp_path / "e"), generator=g)
    again = open_inverter(str(tmp_path / "e"), generator=g)
    assert again.fingerprint == e.fingerprint
    with pytest.raises(
        GeneratorMismatch, match=r"was trained for generator 'tiny' \(\w{12}\), not for 'tiny' \(\w{12}\)"
    ):
        open_inverter(str(tmp_path / "e"), generator=tiny_generator(seed=3))
    with pytest.raises(WeightsRefused, match="no encoder at"):
        open_inverter(str(tmp_path / "none"), generator=g)
