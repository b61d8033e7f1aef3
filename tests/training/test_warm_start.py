"""The warm start: PCA latents, and a generator that decodes them."""

from __future__ import annotations

import pytest
import torch

from ganinv.training.gan import GanTrainer, GanTrainingConfig
from ganinv.training.warm_start import WarmStartConfig, pca_latents, pyramid_loss


def gradients_of_colour(count: int) -> torch.Tensor:
    """Images [count, 3, 32, 32] that differ by two numbers each."""
    rng = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, count, 1, 1, 1, generator=rng)
    ramp = torch.linspace(-1, 1, 32)
    images = a * ramp[None, None, None, :] + (b - 0.5) * torch.tensor([1.0, 0.0, -1.0])[None, :, None, None]
    return ((images.clamp(-1, 1).expand(count, 3, 32, 32) + 1) * 127.5).to(torch.uint8)


@pytest.mark.seconds
def test_pca_latents_are_white() -> None:
    images = torch.randint(0, 256, (300, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    z = pca_latents(images, 8)
    assert z.shape == (300, 8)
    torch.testing.assert_close(z.mean(0), torch.zeros(8), atol=1e-3, rtol=0)
    torch.testing.assert_close(z.t() @ z / 299, torch.eye(8), atol=1e-2, rtol=0)


@pytest.mark.seconds
def test_pca_latents_do_not_depend_on_the_order_of_the_images() -> None:
    """Nor on rounding: mirrored images, as in training, make the largest entry of an eigenvector a tie of left and right."""
    images = torch.randint(0, 256, (150, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = torch.cat([images, images.flip(3)])
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(pca_latents(images[order], 8), pca_latents(images, 8)[order], atol=0.02, rtol=0)


@pytest.mark.seconds
def test_the_generator_learns_to_decode_them() -> None:
    images = gradients_of_colour(64)
    cfg = GanTrainingConfig(
        channels=(16, 16, 16, 16),
        z_dim=4,
        w_dim=16,
        mapping_layers=1,
        stages=((32, 1.0),),
        batch_size=8,
        warm_start=WarmStartConfig(kimg=1.6, batch_size=8, lr=0.01),
    )
    trainer = GanTrainer(cfg, images)
    losses = [step["loss"] for step in trainer.warm_up()]
    assert sum(losses[-10:]) < 0.4 * sum(losses[:10])
    for slow, fast in zip(trainer.g_ema.parameters(), trainer.g.parameters(), strict=True):
        assert torch.equal(slow, fast)


def test_pyramid_loss() -> None:
    x = torch.rand(2, 3, 32, 32)
    assert pyramid_loss(x, x) == 0
    torch.testing.assert_close(pyramid_loss(x, x + 0.5), torch.tensor(0.5))
