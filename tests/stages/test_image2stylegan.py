"""Image2StyleGAN, the noise stage of Image2StyleGAN++, and options of the projector: what docs/methods says they do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from ganinv.codes.code import Code
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.distance import between
from ganinv.metrics import psnr
from ganinv.stages.base import Context
from ganinv.stages.method import Method, MethodConfig
from ganinv.stages.objective import ReconstructionLoss
from ganinv.stages.optimize import NoiseSettings, Optimize
from ganinv.stages.variables import NoiseMaps, original_noise
from ganinv.target import Target
from tests.tiny import random_w, tiny_generator

CONSTANT = {"lr_rampup": 0.0, "lr_rampdown": 0.0, "latent_noise": 0.0}
FREE = NoiseSettings(start="stored", regularization=0.0, normalize=False)
PIXELS = ReconstructionLoss(distance_weight=0.0)


def no_encoder(name: str) -> None:
    raise AssertionError(name)


@pytest.fixture(scope="module")
def context() -> Context:
    return Context(tiny_generator(), no_encoder, lanes=4)


@pytest.fixture(scope="module")
def silent() -> Context:
    """A generator that was trained without noise, as the embedded one."""
    g = tiny_generator()
    for conv in g.synthesis.convs:
        conv.noise_strength.data.zero_()
    return Context(g, no_encoder, lanes=4)


def hard_target(g: Generator, count: int = 4) -> Target:
    """Images outside of W: rows of different latents, and noise that is not the generator's."""
    w = torch.cat([random_w(g, count, seed=s)[:, a:b] for s, a, b in ((1, 0, 3), (2, 3, 5), (3, 5, 8))], dim=1)
    rng = torch.Generator().manual_seed(0)
    images = g.render(Code(w=w)) + 0.1 * torch.randn(count, 3, g.resolution, g.resolution, generator=rng)
    return Target(images, [f"image-{i}" for i in range(count)])


def test_the_first_loss_is_the_formula(context: Context) -> None:
    """At the mean latent: the distance plus the mean over pixels and channels, of each image its own."""
    g, target = context.generator, hard_target(context.generator)
    loss = ReconstructionLoss(distance_weight=0.7, mse_weight=0.3)
    result = Optimize(space="w+", steps=1, loss=loss, **CONSTANT)(target, None, context)
    mean = g.render(Code(w=g.w_mean.expand(4, g.num_ws, -1)))
    distance = context.distance("embedded")
    far = between(distance.features(mean), distance.features(target.images))
    want = 0.7 * far + 0.3 * ((mean - target.images) ** 2).sum(dim=(1, 2, 3)) / (3 * 32 * 32)
    assert [curve[0] for curve in result.loss] == pytest.approx(want.tolist(), rel=1e-6, abs=1e-6)


@pytest.mark.seconds
def test_gradients_are_for_w_only_and_the_loss_falls(context: Context) -> None:
    g = context.generator
    weights = {name: value.clone() for name, value in g.state_dict().items()}
    result = Optimize(space="w+", steps=60, lr=0.04, **CONSTANT)(hard_target(g), None, context)
    assert all(torch.equal(value, weights[name]) for name, value in g.state_dict().items())
    assert result.code.noise is None
    assert result.code.weights is None
    smooth = torch.tensor(result.loss).unfold(1, 20, 1).mean(2)
    assert (smooth[:, 1:] <= smooth[:, :-1] * (1 + 1e-3)).all()
    assert (smooth[:, -1] < 0.5 * smooth[:, 0]).all()


@pytest.mark.slow
def test_more_freedom_fits_better(context: Context) -> None:
    """W+ < W < mean, and W+ < Z, in the final loss, on every image."""
    target = hard_target(context.generator)
    final = {}
    for space, lr in (("z", 0.05), ("w", 0.05), ("w+", 0.05)):
        curves = Optimize(space=space, steps=40, lr=lr, latent_noise=0.0)(target, None, context).loss
        final[space] = [curve[-1] for curve in curves]
        assert all(curve[-1] < curve[0] for curve in curves)  # the first loss is that of the mean
    assert all(a < b for a, b in zip(final["w+"], final["w"], strict=True))
    assert all(a < b for a, b in zip(final["w+"], final["z"], strict=True))


def test_a_random_start_is_uniform_and_of_each_image_its_own(context: Context) -> None:
    target = hard_target(context.generator)
    stage = Optimize(space="w+", start="random", steps=1, lr=1e-12, **CONSTANT)
    w = stage(target, None, context).code.w
    assert w.abs().max() <= 1
    assert w.std() == pytest.approx(3**-0.5, rel=0.1)
    assert (w[:, 0] - w[:, 1]).abs().max() > 0.1
    assert (w[0] - w[1]).abs().max() > 0.1
    alone = Target(target.images[2:3], target.ids[2:3])
    assert torch.equal(stage(alone, None, context).code.w[0], w[2])
    assert not torch.equal(stage(target, None, replace(context, seed=1)).code.w, w)
    row = stage.model_copy(update={"space": "w"})(target, None, context).code.w
    assert torch.equal(row, row[:, :1].expand_as(row))
    assert (row[0] - row[1]).abs().max() > 0.1


@pytest.mark.seconds
def test_two_stages_go_on_where_the_first_ended(context: Context) -> None:
    """The hierarchical variant: W, then its copies part, with a fresh optimiser."""
    g, target = context.generator, hard_target(context.generator)
    first = Optimize(space="w", steps=12, lr=0.05, latent_noise=0.0)(target, None, context)
    second = Optimize(space="w+", start="code", steps=12, lr=0.05, latent_noise=0.0)(target, first.code, context)
    rendered = g.render(first.code)
    distance = context.distance("embedded")
    far = between(distance.features(rendered), distance.features(target.images))
    begins = far + (rendered - target.images).square().mean(dim=(1, 2, 3))
    assert [curve[0] for curve in second.loss] == pytest.approx(begins.tolist(), rel=1e-5)
    assert all(curve[-1] < curve[0] for curve in second.loss)


@pytest.mark.seconds
@pytest.mark.parametrize("strength", [0.0, 0.1], ids=["own-strength", "lent-strength"])
def test_noise_after_the_latent(context: Context, silent: Context, strength: float) -> None:
    """The second stage leaves w alone and gains at least 10 dB; without its maps the first stage's image is back."""
    given = silent if strength else context
    g = given.generator
    target = hard_target(g)
    first = Optimize(space="w+", steps=12, lr=0.05, latent_noise=0.0)(target, None, given)
    assert first.code.noise is None
    settings = FREE.model_copy(update={"strength": strength})
    stage = Optimize(space=None, start="code", steps=60, lr=0.1, noise_maps=settings, loss=PIXELS, **CONSTANT)
    second = stage(target, first.code, given)
    assert torch.equal(second.code.w, first.code.w)

    before, after = (psnr(g.render(code), target.images) for code in (first.code, second.code))
    assert (after > before + 10).all()
    rough = replace(second.code, noise={k: n.half().float() for k, n in second.code.noise.items()})
    assert (after - psnr(g.render(rough), target.images)).abs().max() < 0.1  # as the store keeps them

    assert [curve[0] for curve in second.loss] == pytest.approx((4 / 10 ** (before / 10)).tolist(), rel=1e-4)
    assert torch.equal(g.render(original_noise(second.code, g)), g.render(first.code))
    dropped = stage.model_copy(update={"steps": 3, "noise_maps": settings.model_copy(update={"keep": False})})
    code = dropped(target, first.code, given).code
    assert code.plain
    assert torch.equal(g.render(code), g.render(first.code))


def test_lent_strength_is_for_layers_without_one(context: Context, silent: Context) -> None:
    code = Code(w=random_w(context.generator, 2))
    for given, lent in ((context, 0.0), (silent, 0.1)):
        maps = NoiseMaps(strength=0.1)
        start = maps.start(code, ["a", "b"], given)
        assert bool(start["3"].any()) == (lent == 0.0)
        put = maps.put(code, start, given.generator, None)
        assert [float(v) for v in put.weights.values()] == pytest.approx([lent] * 7)
        torch.testing.assert_close(given.generator.render(put), given.generator.render(code), atol=1e-6, rtol=0)
    # Without a strength nothing can move such maps.
    stage = Optimize(space=None, start="code", steps=3, noise_maps=FREE, loss=PIXELS, **CONSTANT)
    result = stage(hard_target(silent.generator, 2), code, silent)
    assert torch.equal(silent.generator.render(result.code), silent.generator.render(code))


def test_lent_strength_needs_maps_that_start_from_zero() -> None:
    with pytest.raises(ValidationError, match=r"noise_maps\.strength is for maps that start from zero"):
        NoiseSettings(strength=0.1)


@pytest.mark.seconds
def test_a_method_reports_both_pairs_of_numbers(silent: Context) -> None:
    g, target = silent.generator, hard_target(silent.generator)
    stages = (
        Optimize(space="w+", steps=10, lr=0.05, latent_noise=0.0),
        Optimize(
            space=None,
            start="code",
            steps=15,
            lr=0.1,
            noise_maps=FREE.model_copy(update={"strength": 0.1}),
            loss=PIXELS,
            **CONSTANT,
        ),
    )
    both = Method(MethodConfig(name="m", summary="s", space="w+", stages=stages), silent).invert(target)
    first = Method(MethodConfig(name="m", summary="s", space="w+", stages=stages[:1]), silent).invert(target)
    assert set(first.metrics) == {"mse", "psnr", "distance"}
    for name in first.metrics:
        assert both.metrics[f"{name}_plain"] == first.metrics[name]
    assert both.metrics["psnr"] == pytest.approx(psnr(g.render(both.code), target.images).tolist(), rel=1e-4)
    assert all(a > b for a, b in zip(both.metrics["psnr"], both.metrics["psnr_plain"], strict=True))


def test_projector_noise_is_normal_after_every_step(context: Context) -> None:
    maps = NoiseMaps(normalize=True, regularization=1e5)
    rng = torch.Generator().manual_seed(0)
    values = {"0": 3 + 2 * torch.randn(5, 1, 4, 4, generator=rng), "5": torch.rand(5, 1, 32, 32, generator=rng)}
    for n in maps.constrain(values).values():
        assert n.mean(dim=(1, 2, 3)).abs().max() < 1e-6
        assert (n.square().mean(dim=(1, 2, 3)).sqrt() - 1).abs().max() < 1e-5
    for steps in (1, 2, 3):
        code = Optimize(space="w", steps=steps, noise_maps=NoiseSettings())(
            hard_target(context.generator), None, context
        ).code
        for n in code.noise.values():
            assert n.mean(dim=(1, 2, 3)).abs().max() < 1e-6
            assert (n.square().mean(dim=(1, 2, 3)).sqrt() - 1).abs().max() < 1e-5
