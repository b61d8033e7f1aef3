"""The warm start: PCA latents, and a generator that decodes them."""

from __future__ import annotations

import pytest
import torch

from ganinv.training.warm_start import Components, pyramid_loss
from tests.training.gans import gan


def gradients_of_colour(count: int) -> torch.Tensor:
    """Images [count, 3, 32, 32] that differ by two numbers each."""
    rng = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, count, 1, 1, 1, generator=rng)
    ramp = torch.linspace(-1, 1, 32)
    images = a * ramp[None, None, None, :] + (b - 0.5) * torch.tensor([1.0, 0.0, -1.0])[None, :, None, None]
    return ((images.clamp(-1, 1).expand(count, 3, 32, 32) + 1) * 127.5).to(torch.uint8)


def latents(images: torch.Tensor, count: int) -> torch.Tensor:
    """Of uint8 images, by the components of these images, found in chunks."""
    components = Components(count)
    components.fit(images.split(100))
    return components(images.float() / 127.5 - 1)


def test_pca_latents_are_white() -> None:
    images = torch.randint(0, 256, (300, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    z = latents(images, 8)
    assert z.shape == (300, 8)
    torch.testing.assert_close(z.mean(0), torch.zeros(8), atol=1e-3, rtol=0)
    torch.testing.assert_close(z.t() @ z / 299, torch.eye(8), atol=1e-2, rtol=0)


def test_few_images_and_many_give_the_same_components() -> None:
    """Below as many images as dimensions they are found another way."""
    images = torch.randint(0, 256, (150, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    twice = images.repeat(2, 1, 1, 1)
    few, many = (latents(some, 6)[:150] for some in (images, twice))
    torch.testing.assert_close(few / 149**0.5, many / 149.5**0.5, atol=1e-4, rtol=1e-3)


def test_pca_latents_do_not_depend_on_the_order_of_the_images() -> None:
    """Nor on rounding: mirrored images, as in training, make the largest entry of an eigenvector a tie of left and right."""
    images = torch.randint(0, 256, (150, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = torch.cat([images, images.flip(3)])
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(latents(images[order], 8), latents(images, 8)[order], atol=0.02, rtol=0)


@pytest.mark.seconds
def test_the_generator_learns_to_decode_them() -> None:
    images = gradients_of_colour(64)
    trainer = gan(
        images,
        channels=(16, 16, 16, 16),
        z_dim=4,
        w_dim=16,
        steps=60,
        warm_start={"steps": 60, "optimizer": {"lr": 0.02, "adam_lr": 0.01, "mapping_scale": 0.3}},
    )
    losses = [trainer.step()["decoding"] for _ in range(60)]
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])


def test_the_running_mean_and_the_optimiser_begin_after_the_warm_start() -> None:
    trainer = gan(size=16, channels=(16, 16, 8), steps=4, warm_start={"steps": 2}, ema=1000.0)
    for _ in range(2):
        trainer.step()
    warm = {name: tensor.clone() for name, tensor in trainer.learner.network.state_dict().items()}
    parts = trainer.optimizer.parts
    trainer.step()
    assert trainer.optimizer.parts is not parts
    with trainer.finished() as mean:  # half way from where the warm start ended to here
        for name, tensor in mean.state_dict().items():
            assert torch.allclose(tensor, warm[name], atol=0.1), name
    assert trainer.phase_began == 2


def test_pyramid_loss() -> None:
    x = torch.rand(2, 3, 32, 32)
    assert pyramid_loss(x, x) == 0
    torch.testing.assert_close(pyramid_loss(x, x + 0.5), torch.tensor(0.5))
