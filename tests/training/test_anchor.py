"""Anchored adversarial training: half of a batch is held to training images."""

from __future__ import annotations

import pytest
import torch

from ganinv.codes.code import Code
from ganinv.training.step import Step
from tests.training.gans import gan, learner

ANCHORED = {"anchor_weight": 20.0, "style_mixing": 1.0}


@pytest.mark.seconds
def test_anchored_half_renders_its_own_latents() -> None:
    trainer = gan(**ANCHORED)
    batch = trainer.batches.batch(Step(0, 8))
    trained = learner(trainer)
    trained.begin(trainer.batches.images)
    fake = trained._generate(batch.images, Step(0, 8))
    w = trained.network.map(trained.components(batch.images[:4]))
    torch.testing.assert_close(fake[:4], trained.network.synthesize(Code(w=w), noise="none"), atol=1e-4, rtol=1e-3)


def test_the_loss_pulls_towards_the_image() -> None:
    fake = torch.zeros(1, 3, 32, 32, requires_grad=True)
    real = -torch.ones(1, 3, 32, 32)
    real[..., :16] = 1  # white on the left
    weight, loss = learner(gan(**ANCHORED))._anchored(fake, real, Step(0, 8))["anchor"]
    (weight * loss).backward()
    assert fake.grad is not None
    assert (fake.grad[:, :, :, :16] < 0).all()  # going down the gradient makes the left brighter
    assert (fake.grad[:, :, :, 16:] > 0).all()


@pytest.mark.seconds
def test_anchored_training_keeps_the_images() -> None:
    colours = torch.tensor([[230, 30, 30], [30, 230, 30], [30, 30, 230], [230, 230, 30]], dtype=torch.uint8)
    images = colours[:, :, None, None].expand(4, 3, 16, 16).contiguous().repeat(2, 1, 1, 1)
    optimizer = {
        "kind": "muon",
        "lr": 0.004,
        "adam_lr": 0.005,
        "momentum": 0.9,
        "betas": (0.0, 0.99),
        "mapping_scale": 0.05,
    }
    trainer = gan(
        images, **ANCHORED, size=16, channels=(16, 16, 8), z_dim=3, optimizer=optimizer, critic_lr=0.005, steps=250
    )
    trained, real = learner(trainer), images[:4].float() / 127.5 - 1

    def error() -> float:
        with torch.no_grad():
            w = trained.network.map(trained.components(real))
            rendered = trained.network.synthesize(Code(w=w), noise="none")
        return float((rendered.mean(dim=(2, 3)) - real[:, :, 0, 0]).abs().mean())

    trained.begin(trainer.batches.images)
    before = error()
    for _ in range(30):
        trainer.step()
    assert error() < 0.6 * before
