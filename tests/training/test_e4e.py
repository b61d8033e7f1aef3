"""e4e: the network's stages, its losses, training that falls and resumes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from ganinv.training.e4e import E4eTrainer, E4eTrainingConfig, LatentPool

from ganinv.codes.code import Code
from ganinv.errors import GeneratorMismatch, WeightsRefused
from ganinv.methods.e4e import E4e, E4eConfig
from ganinv.methods.files import open_inverter, save_inverter
from tests.tiny import random_w, tiny_generator

CONFIG = E4eTrainingConfig(steps=12, batch_size=4, progressive_start=4, progressive_every=2, pool_size=6)


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


def test_progressive_schedule() -> None:
    trainer = E4eTrainer(CONFIG, tiny_generator(), torch.empty((0, 3, 32, 32), dtype=torch.uint8))
    stages = [int(losses["stage"]) for losses in trainer.run()]
    assert stages == [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.seconds
def test_training_approaches_the_images() -> None:
    g = tiny_generator()
    cfg = CONFIG.model_copy(
        update={"steps": 60, "lr": 2e-3, "batch_size": 8, "real_share": 0.0, "adversarial_weight": 0.0}
    )
    trainer = E4eTrainer(cfg, g, torch.empty((0, 3, 32, 32), dtype=torch.uint8))
    images = g.render(Code(w=random_w(g, 16, seed=77)))

    def error() -> float:
        trainer.encoder.eval()
        value = (g.render(trainer.encoder(images).detach()) - images).square().mean()
        trainer.encoder.train()
        return float(value)

    before = error()
    for _ in trainer.run():
        pass
    assert error() < 0.8 * before


@pytest.mark.seconds
def test_resume_equals_an_undisturbed_run(tmp_path: Path) -> None:
    g = tiny_generator()
    real = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    whole = E4eTrainer(CONFIG, g, real)
    cut = E4eTrainer(CONFIG, g, real)
    for _ in range(7):
        cut.step()
    torch.save(cut.state(), tmp_path / "state.pt")
    resumed = E4eTrainer(CONFIG, g, real)
    resumed.load(torch.load(tmp_path / "state.pt", weights_only=True))
    last = list(whole.run())[-1]
    assert list(resumed.run())[-1]["total"] == pytest.approx(last["total"], rel=1e-4)


def test_latent_pool() -> None:
    pool = LatentPool(50, random.Random(0))
    first = torch.arange(50.0)[:, None]
    assert torch.equal(pool.query(first), first)
    later = pool.query(torch.arange(100.0, 300.0)[:, None])
    old = (later[:, 0] != torch.arange(100.0, 300.0)).float().mean()
    assert 0.35 < old < 0.65


def test_encoder_folder(tmp_path: Path) -> None:
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
