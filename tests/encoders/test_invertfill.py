"""InvertFill on a small generator: what a hole hides from it, and what its training leaves alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.config import validate
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.inputs import with_holes
from ganinv.methods.invertfill import InvertFill, InvertFillConfig, InvertFillRecipe, variation
from ganinv.training.batches import MixedBatches
from ganinv.training.step import Step
from ganinv.training.trainer import Trainer
from tests.tiny import random_w, tiny_generator

SMALL: dict[str, Any] = {"base_channels": 8, "bottlenecks": 1, "hidden": 8}


@pytest.fixture(scope="module")
def generator() -> Generator:
    return tiny_generator()


def inverter(g: Generator, *, moved: bool = False) -> InvertFill:
    torch.manual_seed(0)
    made = InvertFill(validate(InvertFillConfig, InvertFillConfig.for_generator(g, SMALL), "test"), g)
    made.latent_avg.copy_(g.w_mean)
    if moved:
        for parameter in made.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    return made.eval().requires_grad_(False)


def halves(count: int = 2) -> Tensor:
    """The left half is missing."""
    holes = torch.zeros(count, 1, 32, 32)
    holes[..., :16] = 1
    return holes


def pictures(count: int = 2) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_untrained_it_renders_the_mean_latent(generator: Generator) -> None:
    code = inverter(generator)(pictures(), holes=halves())
    mean = Code(w=generator.w_mean.expand(2, generator.num_ws, -1))
    torch.testing.assert_close(generator.synthesize(code), generator.synthesize(mean), atol=1e-6, rtol=0)


def test_nothing_of_what_is_missing_is_read(generator: Generator) -> None:
    made, images, holes = inverter(generator, moved=True), pictures(), halves()
    other = torch.where(holes > 0, -images, images)
    one, two = (generator.synthesize(made(x, holes=holes)) for x in (images, other))
    assert torch.equal(one, two)
    assert not torch.equal(one, generator.synthesize(made(images)))


def test_features_are_zero_where_nothing_is_known(generator: Generator) -> None:
    made = inverter(generator, moved=True)
    code = made(pictures(), holes=halves())
    assert set(code.features or {}) == {"block[2]"}
    added = code.features["block[2]"].add  # type: ignore[index]
    assert isinstance(added, Tensor)
    assert not added[..., :4].any()
    assert added[..., 4:].any()
    all_missing = made(pictures(), holes=torch.ones(1, 1, 32, 32))
    assert not all_missing.features["block[2]"].add.any()  # type: ignore[index, union-attr]
    assert torch.equal(all_missing.const, generator.synthesis.const.expand(2, -1, -1, -1))  # type: ignore[arg-type]


def test_a_pixel_that_is_missing_in_part_is_missing() -> None:
    holes = torch.zeros(1, 1, 64, 64)
    holes[..., 0] = 1
    seen = with_holes(torch.ones(1, 3, 32, 32), holes)
    assert seen.shape == (1, 4, 32, 32)
    assert seen[0, 3, :, 0].all()
    assert not seen[0, :3, :, 0].any()
    assert not seen[0, 3, :, 2:].any()


def test_variation_counts_the_hole_and_its_border_alone() -> None:
    images = torch.zeros(1, 1, 8, 8)
    images[..., 4:] = 1
    hole = torch.zeros(1, 1, 8, 8)
    assert float(variation(images, hole)) == 0
    hole[..., 4:] = 1
    assert float(variation(images, hole)) == pytest.approx(8 / 56)
    hole = torch.zeros(1, 1, 8, 8)
    hole[..., :2] = 1
    assert float(variation(images, hole)) == 0


def trainer(g: Generator, **other: Any) -> Trainer:
    recipe = InvertFillRecipe(
        steps=4,
        batch_size=4,
        inverter=SMALL,
        data={"degrade": {"choose": [{"kind": "free-form", "share": [0.2, 0.6]}]}},
        **other,
    )
    return Trainer(recipe, lambda: recipe.build(g, {}, None), MixedBatches(recipe.data, g, 4))


@pytest.mark.seconds
def test_training_has_all_its_terms_and_leaves_generator_and_discriminator_alone() -> None:
    g = tiny_generator()
    before, judge = g.fingerprint, [p.clone() for p in g.discriminator.parameters()]  # type: ignore[union-attr]
    trained = trainer(g, style=1.0, adversarial=0.1)
    losses = [trained.step() for _ in range(3)][-1]
    assert {"known", "hole", "style", "variation", "painted", "adversarial", "discriminator"} <= losses.keys()
    assert g.fingerprint == before
    assert all(torch.equal(a, b) for a, b in zip(judge, g.discriminator.parameters(), strict=True))  # type: ignore[union-attr]


@pytest.mark.seconds
def test_the_soft_mean_is_the_running_mean_of_what_is_drawn() -> None:
    g = tiny_generator()
    trained = trainer(g, soft_mean=0.25, losses={"distance": 0})
    expected = g.w_mean.clone()
    for number in range(3):
        trained.step()
        z = torch.randn(4, g.z_dim, generator=Step(number, 4).stream("soft mean"))
        expected = 0.75 * expected + 0.25 * g.map(z)[:, 0].mean(0)
    network = trained.learner.network
    assert isinstance(network, InvertFill)
    torch.testing.assert_close(network.latent_avg, expected)


def test_held_out_images_are_filled_where_they_differ_from_what_they_should_be(generator: Generator) -> None:
    trained = trainer(tiny_generator())
    target = generator.render(Code(w=random_w(generator, 2))).clamp(-1, 1)
    seen = torch.where(halves() > 0, torch.zeros(()), target)
    wanted, made = trained.learner.examine(seen, target)
    assert torch.equal(wanted, target)
    assert made.shape == target.shape
