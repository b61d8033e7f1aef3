"""The image discriminator that learns beside an inverter."""

from __future__ import annotations

import copy

import pytest
import torch

from ganinv.errors import ConfigError
from ganinv.generators.discriminator import Discriminator
from ganinv.training.players import ImageCritic, ImageCriticConfig
from ganinv.training.step import Step
from tests.tiny import tiny_generator


def pictures(seed: int, noise: float) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(4, 3, 1, 1, generator=rng) * 2 - 1 + noise * torch.randn(4, 3, 32, 32, generator=rng)


@pytest.mark.seconds
def test_it_learns_as_a_copy_and_the_generator_s_own_stays() -> None:
    g = tiny_generator()
    assert g.discriminator is not None
    before = copy.deepcopy(g.discriminator.state_dict())
    critic = ImageCritic(ImageCriticConfig(lr=2e-3, r1_weight=0.0), g)
    assert all(
        torch.equal(a, b) for a, b in zip(critic.discriminator.state_dict().values(), before.values(), strict=True)
    )
    losses = [float(critic.learn(pictures(n, 1.0), pictures(100 + n, 0.0), Step(n, 15))) for n in range(15)]
    assert sum(losses[-5:]) < 0.85 * sum(losses[:5])
    assert all(torch.equal(a, b) for a, b in zip(g.discriminator.state_dict().values(), before.values(), strict=True))
    assert critic.loss(pictures(200, 0.0)) < critic.loss(pictures(201, 1.0))


def test_its_opinion_has_a_gradient_towards_the_images_alone() -> None:
    critic = ImageCritic(ImageCriticConfig(start="scratch"), tiny_generator())
    images = pictures(0, 0.5).requires_grad_(True)
    critic.loss(images).backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert all(p.grad is None for p in critic.discriminator.parameters())


@pytest.mark.seconds
def test_the_penalty_comes_every_so_many_steps_and_weighs_as_much_more() -> None:
    def moved(every: int, number: int, weight: float) -> float:
        torch.manual_seed(0)
        critic = ImageCritic(ImageCriticConfig(r1_weight=weight, r1_every=every), tiny_generator())
        critic.learn(pictures(0, 1.0), pictures(1, 0.0), Step(number, 8))
        parameter = critic.discriminator.from_rgb.weight
        return float(critic.optimizer.state[parameter]["exp_avg"].norm())

    assert moved(4, 1, 1e3) == moved(4, 1, 0.0)
    assert moved(4, 0, 10.0) == pytest.approx(moved(1, 0, 40.0), rel=1e-5)
    assert moved(4, 0, 1e4) > moved(4, 1, 1e4)


def test_it_goes_on_from_its_state() -> None:
    one, two = (ImageCritic(ImageCriticConfig(lr=1e-3), tiny_generator()) for _ in range(2))
    for number in range(2):
        one.learn(pictures(number, 1.0), pictures(9, 0.0), Step(number, 4), scale=0.5)
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    last = [c.learn(pictures(5, 1.0), pictures(9, 0.0), Step(2, 4), scale=0.5) for c in (one, two)]
    assert torch.equal(*last)
    assert one.optimizer.param_groups[0]["lr"] == 5e-4
    assert torch.equal(one.loss(pictures(6, 1.0)), two.loss(pictures(6, 1.0)))


def test_generators_without_a_discriminator_or_with_one_of_classes_are_refused() -> None:
    g = tiny_generator()
    g.discriminator = None
    with pytest.raises(ConfigError, match=r"set critic\.start to scratch"):
        ImageCritic(ImageCriticConfig(), g)
    assert ImageCritic(ImageCriticConfig(start="scratch"), g).loss(pictures(0, 0.1)).isfinite()
    g.discriminator = Discriminator(32, g.cfg.channels, c_dim=3)
    with pytest.raises(ConfigError, match="judges classes"):
        ImageCritic(ImageCriticConfig(), g)
