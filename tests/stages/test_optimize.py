"""Optimisation in W and W+: schedules, independence of the batch, noise maps."""

from __future__ import annotations

import pytest
import torch

from ganinv.codes.code import Code
from ganinv.stages.base import Context
from ganinv.stages.objective import ReconstructionLoss
from ganinv.stages.optimize import NoiseSettings, Optimize
from ganinv.stages.variables import Latent, noise_correlation
from ganinv.target import Target
from tests.tiny import random_w, tiny_generator


@pytest.fixture(scope="module")
def context() -> Context:
    def no_encoder(name: str) -> None:
        raise AssertionError(name)

    return Context(tiny_generator(), no_encoder)


def target_of(context: Context, count: int) -> Target:
    images = context.generator.render(Code(w=random_w(context.generator, count)))
    return Target(images, [f"image-{i}" for i in range(count)])


def test_learning_rate_schedule() -> None:
    stage = Optimize(lr=0.1)
    assert stage.lr_factor(0.0) == 0.0
    assert stage.lr_factor(0.05) == pytest.approx(1.0)
    assert stage.lr_factor(0.75) == pytest.approx(1.0)
    assert stage.lr_factor(1.0) == pytest.approx(0.0)
    assert stage.lr_factor(0.875) == pytest.approx(0.5)


def test_latent_noise_schedule() -> None:
    latent = Latent("w", noise=0.05)
    assert latent.noise_factor(0.0) == 1.0
    assert latent.noise_factor(0.375) == pytest.approx(0.25)
    assert latent.noise_factor(0.75) == 0.0
    assert latent.noise_factor(0.9) == 0.0


@pytest.mark.seconds
@pytest.mark.parametrize("space", ["w", "w+"])
def test_results_do_not_depend_on_the_batch(context: Context, space: str) -> None:
    stage = Optimize(space=space, steps=10, lr=0.01, noise_maps=NoiseSettings())
    target = target_of(context, 4)
    together = stage(target, None, context)
    for i in (0, 3):
        alone = stage(target[i : i + 1], None, context)
        assert (together.code.w[i] - alone.code.w[0]).abs().max() < 1e-3
        assert (together.code.noise[2][i] - alone.code.noise[2][0]).abs().max() < 1e-2
        assert together.loss[i] == pytest.approx(alone.loss[0], rel=1e-3, abs=1e-5)


@pytest.mark.seconds
def test_w_has_equal_rows_and_w_plus_has_not(context: Context) -> None:
    target = target_of(context, 2)
    w = Optimize(space="w", steps=5)(target, None, context).code.w
    assert torch.equal(w, w[:, :1].expand_as(w))
    plus = Optimize(space="w+", steps=5)(target, None, context).code.w
    assert not torch.equal(plus, plus[:, :1].expand_as(plus))


@pytest.mark.seconds
def test_w_plus_reconstructs_better_than_w_better_than_the_mean(context: Context) -> None:
    g = context.generator
    mixed = torch.cat([random_w(g, 4)[:, :4], random_w(g, 4, seed=9)[:, 4:]], dim=1)  # outside W
    target = Target(g.render(Code(w=mixed)), list("abcd"))
    loss = ReconstructionLoss(distance_weight=0.0)
    errors = []
    for space in ("w", "w+"):
        stage = Optimize(space=space, steps=40, lr=0.05, latent_noise=0.0, loss=loss)
        rendered = g.render(stage(target, None, context).code)
        errors.append((rendered - target.images).square().mean(dim=(1, 2, 3)))
    mean = g.render(Code(w=g.w_mean.expand(4, g.num_ws, -1)))
    errors.insert(0, (mean - target.images).square().mean(dim=(1, 2, 3)))
    assert (errors[1] < errors[0]).all()
    assert (errors[2] < errors[1]).all()


def test_start_from_code_and_without_one(context: Context) -> None:
    target = target_of(context, 2)
    code = Code(w=random_w(context.generator, 2))
    stage = Optimize(space="w", start="code", steps=1, lr_rampup=0.0, latent_noise=0.0)
    result = stage(target, code, context)
    assert max(curve[0] for curve in result.loss) < 1e-6  # it began at the answer
    with pytest.raises(ValueError, match="needs a stage before it"):
        stage(target, None, context)


def test_optimised_noise_is_normal_and_part_of_the_result(context: Context) -> None:
    target = target_of(context, 2)
    code = Optimize(space="w", steps=10, noise_maps=NoiseSettings())(target, None, context).code
    assert code.noise is not None
    for n in code.noise.values():
        assert n.mean(dim=(1, 2, 3)).abs().max() < 1e-6
        assert (n.square().mean(dim=(1, 2, 3)).sqrt() - 1).abs().max() < 1e-5


def test_noise_regulariser() -> None:
    constant = torch.ones(1, 1, 32, 32)
    assert float(noise_correlation(constant)) == pytest.approx(2 * 3)  # 32, 16, 8
    white = torch.randn(64, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    pixels = [32 * 32, 16 * 16, 8 * 8]
    scale = [1.0, 1 / 16, 1 / 256]  # variance of the squared mean after pooling: (sigma^2)^2
    expected = sum(2 * s / p for p, s in zip(pixels, scale, strict=True))
    assert float(noise_correlation(white).mean()) == pytest.approx(expected, rel=0.3)


def test_maps_that_change_nothing_are_left_away_and_the_latent_takes_the_same_path() -> None:
    """Of a generator that was trained without noise, where the projector drops its maps in the end anyway."""
    g = tiny_generator(16)
    for conv in g.synthesis.convs:
        conv.noise_strength.zero_()
    silent = Context(g, lambda name: pytest.fail(name))
    target = target_of(silent, 2)
    kept = Optimize(space="w", steps=6, noise_maps=NoiseSettings())(target, None, silent)
    dropped = Optimize(space="w", steps=6, noise_maps=NoiseSettings(keep=False))(target, None, silent)
    assert torch.equal(kept.code.w, dropped.code.w)
    assert kept.code.noise is not None
    assert dropped.code.noise is None
    assert all(a[0] > b[0] for a, b in zip(kept.loss, dropped.loss, strict=True))  # nothing holds the maps to be white
    g.synthesis.convs[0].noise_strength.fill_(0.1)
    heard = Optimize(space="w", steps=6, noise_maps=NoiseSettings(keep=False))(target, None, silent)
    assert not torch.equal(heard.code.w, dropped.code.w)
