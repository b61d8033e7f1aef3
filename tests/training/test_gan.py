"""GAN training: one pass for both networks, growth, resume, augmentation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from ganinv.codes.code import Code
from ganinv.generators.discriminator import Discriminator
from ganinv.training.augment import AdaptiveProbability, augment, jitter
from ganinv.training.gan import GanTrainer, GanTrainingConfig, train

TINY = GanTrainingConfig(
    channels=(16, 16, 8, 8),
    z_dim=8,
    w_dim=8,
    mapping_layers=1,
    stages=((16, 0.032), (32, 0.032)),
    batch_size=8,
    r1_every=2,
    snapshot_kimg=0.016,
)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_one_pass_gives_both_gradients() -> None:
    torch.manual_seed(0)
    d, x = Discriminator(16, (8, 8, 8)), torch.randn(8, 3, 16, 16, requires_grad=True)
    logits = d(x, isolate=True)
    (from_d,) = torch.autograd.grad(F.softplus(logits).mean(), x)
    (for_g,) = torch.autograd.grad(F.softplus(-d(x, isolate=True)).mean(), x)
    torch.testing.assert_close(from_d * -torch.exp(-logits.detach())[:, :, None, None], for_g, atol=1e-8, rtol=1e-4)
    torch.testing.assert_close(logits, d(x))  # isolation changes gradients, not values


def test_a_resumed_run_equals_an_undisturbed_one(images: torch.Tensor, tmp_path: Path) -> None:
    whole = GanTrainer(TINY, images)
    train(whole, tmp_path / "whole")
    assert whole.resolution == 32

    class Killed(Exception):
        pass

    def kill(trainer: GanTrainer) -> None:
        if trainer.nimg >= 48:  # after the growth
            raise Killed

    with pytest.raises(Killed):
        train(GanTrainer(TINY, images), tmp_path / "cut", on_snapshot=kill)
    resumed = GanTrainer(TINY, images)
    train(resumed, tmp_path / "cut")
    assert resumed.nimg == whole.nimg == 64
    for name, tensor in whole.g_ema.state_dict().items():
        torch.testing.assert_close(resumed.g_ema.state_dict()[name], tensor, atol=1e-5, rtol=1e-4)
    assert len((tmp_path / "cut/log.jsonl").read_text().splitlines()) == 4


def test_growth_starts_from_the_upsampled_image(images: torch.Tensor) -> None:
    trainer = GanTrainer(TINY, images)
    trainer.step()
    z = torch.randn(2, 8)
    small = trainer.g.synthesize(Code(w=trainer.g.map(z)), noise="none")
    trainer._build(32)
    large = trainer.g.synthesize(Code(w=trainer.g.map(z)), noise="none")
    torch.testing.assert_close(large, trainer.g.synthesis.upsample(small), atol=1e-5, rtol=1e-4)


@pytest.mark.seconds
def test_learning_moves_towards_the_data() -> None:
    """A data set of one colour: after a short training the samples have it."""
    colour = torch.tensor([200, 60, 90], dtype=torch.uint8)
    images = colour[None, :, None, None].expand(8, 3, 16, 16).contiguous()
    cfg = TINY.model_copy(update={"channels": (16, 16, 8), "stages": ((16, 1.2),), "anneal_kimg": 0.4, "lr": 0.005})
    trainer = GanTrainer(cfg, images)
    z = torch.randn(16, 8)

    def error() -> float:
        with torch.no_grad():
            samples = trainer.g_ema.synthesize(Code(w=trainer.g_ema.map(z)), noise="none").mean(dim=(0, 2, 3))
        return float((samples - (colour.float() / 127.5 - 1)).abs().max())

    before = error()
    while trainer.nimg < trainer.total_img:
        trainer.step()
    assert error() < 0.5 * before


def test_augmentation() -> None:
    x = torch.rand(64, 3, 16, 16) * 2 - 1
    assert torch.equal(augment(x, 0.0), x)
    rng = torch.Generator().manual_seed(0)
    changed = (augment(x, 0.1, rng) - x).abs().flatten(1).amax(1) > 1e-3
    assert 0.2 < changed.float().mean() < 0.9  # each of several transformations hits a tenth of the images
    y = x.clone().requires_grad_(True)
    augment(y, 0.8, rng).sum().backward()
    assert torch.isfinite(y.grad).all()
    assert y.grad.abs().sum() > 0


def test_jitter_stays_near_and_in_range() -> None:
    x = F.interpolate(torch.rand(8, 3, 4, 4) * 2 - 1, size=32, mode="bilinear")
    y, _ = jitter(x, torch.Generator().manual_seed(0))
    assert y.shape == x.shape
    assert y.abs().max() <= 1
    assert (y - x).abs().flatten(1).mean(1).min() > 0.01  # every image changes,
    assert (y - x).abs().mean() < 0.25  # and none becomes another picture
    assert torch.equal(y, jitter(x, torch.Generator().manual_seed(0))[0])


def test_probability_follows_the_overfitting() -> None:
    ada = AdaptiveProbability(target=0.6, speed_kimg=1.0, interval=2)
    for _ in range(10):
        ada.update(torch.full((10, 1), 3.0))  # D is certain of every real image
    assert ada.p == pytest.approx(0.1)
    for _ in range(40):
        ada.update(torch.full((10, 1), -3.0))
    assert ada.p == 0.0


def test_path_regularisation_evens_out_the_lengths(images: torch.Tensor) -> None:
    """Its gradient alone, followed for some steps: on the same draws, lengths of paths have come closer to their mean."""
    cfg = TINY.model_copy(
        update={"stages": ((16, 1.0),), "channels": (16, 16, 8), "path_weight": 1.0, "batch_size": 64}
    )
    trainer = GanTrainer(cfg, images)
    optimizer = torch.optim.Adam(trainer.g.parameters(), lr=0.003)

    def unevenness() -> float:
        trainer.rng.manual_seed(1)
        trainer.path_mean = None
        losses = trainer._regularise_path()
        return losses["path_penalty"] / losses["path_length"] ** 2

    before = unevenness()
    trainer.rng.manual_seed(2)
    for _ in range(30):
        optimizer.zero_grad()
        trainer._regularise_path()
        optimizer.step()
    assert unevenness() < 0.85 * before


def test_anchors_fade_and_bfloat16_trains(images: torch.Tensor) -> None:
    faded = {"anchor_weight": 20.0, "anchor_final": 0.1, "precision": "bfloat16", "path_weight": 1.0, "path_every": 1}
    trainer = GanTrainer(TINY.model_copy(update={"stages": ((16, 1.0),), "channels": (16, 16, 8), **faded}), images)
    anchored, fake = torch.tensor([1, 2]), torch.zeros(8, 3, 16, 16)
    begun, _ = trainer._anchor_gradient(fake, anchored)
    trainer.nimg = trainer.total_img
    ended, _ = trainer._anchor_gradient(fake, anchored)
    torch.testing.assert_close(ended, begun * 0.1)
    trainer.nimg = 0
    losses = trainer.step()
    assert {"path_penalty", "path_length", "anchor"} <= losses.keys()
    assert all(torch.isfinite(p).all() for p in trainer.g.parameters())
    assert all(p.dtype is torch.float32 for p in trainer.g.parameters())
