"""Pivotal tuning: batched equals sequential, early stop, locality, what is left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ganinv.codes.code import Code
from ganinv.errors import ConfigError
from ganinv.losses.distance import between
from ganinv.stages.base import Context
from ganinv.stages.descent import Stop
from ganinv.stages.tune import Locality, LocalityLoss, Tune
from ganinv.target import Target
from tests.tiny import random_w, tiny_generator


@pytest.fixture(scope="module")
def context() -> Context:
    return Context(tiny_generator(), lambda name: None)


@pytest.fixture(scope="module")
def job(context: Context) -> tuple[Target, Code]:
    """Images of one latent, to be rendered from another: the pivot alone cannot do it."""
    g = context.generator
    images = g.render(Code(w=random_w(g, 4, seed=3)))
    return Target(images, list("abcd")), Code(w=random_w(g, 4, seed=4))


@pytest.mark.seconds
def test_tuning_reconstructs_and_leaves_pivot_and_generator_alone(context: Context, job: tuple[Target, Code]) -> None:
    target, pivot = job
    before = context.generator.fingerprint
    result = Tune(steps=30, lr=0.01)(target, pivot, context)
    context.generator._fingerprint = None
    assert context.generator.fingerprint == before
    assert torch.equal(result.code.w, pivot.w)
    untuned = (context.generator.render(pivot) - target.images).square().mean(dim=(1, 2, 3))
    tuned = (context.generator.render(result.code) - target.images).square().mean(dim=(1, 2, 3))
    assert (tuned < 0.3 * untuned).all()
    assert result.steps == [30] * 4
    assert result.stop_reason == ["cap"] * 4


@pytest.mark.seconds
def test_batched_equals_sequential(context: Context, job: tuple[Target, Code]) -> None:
    target, pivot = job
    stage = Tune(steps=12, lr=0.005)
    together = stage(target, pivot, context)
    for i in range(4):
        alone = stage(target[i : i + 1], pivot[i], context)
        assert together.loss[i][-1] == pytest.approx(alone.loss[0][-1], rel=0.01)
        rendered = [context.generator.render(c) for c in (together.code[i], alone.code)]
        assert (rendered[0] - rendered[1]).abs().max() < 1e-2


@pytest.mark.seconds
def test_early_stop_keeps_the_weights_that_passed(context: Context, job: tuple[Target, Code]) -> None:
    target, pivot = job
    free = Tune(steps=20, lr=0.01)(target, pivot, context)
    distance = context.distance("embedded")
    wanted = distance.features(target.images)
    early = Tune(steps=6, lr=0.01)(target, pivot, context).code
    threshold = float(between(distance.features(context.generator.render(early)), wanted).median())
    stopped = Tune(steps=20, lr=0.01, stop=Stop(below=threshold))(target, pivot, context)
    reached = between(distance.features(context.generator.render(stopped.code)), wanted)
    assert "threshold" in stopped.stop_reason
    for i, reason in enumerate(stopped.stop_reason):
        if reason == "threshold":
            assert float(reached[i]) <= threshold * 1.001
            assert stopped.steps[i] < 20
        # An image that leaves early does not disturb the others.
        assert stopped.loss[i] == pytest.approx(free.loss[i][: len(stopped.loss[i])], rel=0.01, abs=1e-5)


@pytest.mark.seconds
def test_the_loss_falls(context: Context, job: tuple[Target, Code]) -> None:
    target, pivot = job
    curves = torch.tensor(Tune(steps=50, lr=0.006)(target[:2], pivot[:2], context).loss).mean(0)
    assert curves[40:].mean() < 0.6 * curves[0]
    smooth = curves.unfold(0, 10, 1).mean(1)
    assert (smooth[1:] <= smooth[:-1] * 1.05).all()


def test_only_named_layers_train(context: Context, job: tuple[Target, Code]) -> None:
    code = Tune(steps=2, layers=("torgbs.?.weight",))(*job, context).code
    assert set(code.weights) == {f"torgbs.{b}.weight" for b in range(4)}
    with pytest.raises(ConfigError, match="match no parameter"):
        Tune(layers=("conv.*",))(*job, context)


@pytest.mark.seconds
def test_locality_keeps_the_neighbourhood(context: Context, job: tuple[Target, Code]) -> None:
    target, pivot = job
    g = context.generator
    near = Code(w=pivot.w + 0.5 * g.w_std * torch.nn.functional.normalize(random_w(g, 4, seed=8) - pivot.w, dim=2))
    changes = []
    for locality in (None, Locality(mse_weight=20.0, distance_weight=0.0, alpha=float(g.w_std) * 0.5 * 8**0.5)):
        weights = Tune(steps=20, lr=0.01, locality=locality)(target, pivot, context).code.weights
        tuned = g.render(Code(w=near.w, weights=weights))
        changes.append((tuned - g.render(near)).square().mean())
    assert changes[1] < 0.7 * changes[0]


@pytest.mark.seconds
def test_locality_is_zero_before_any_step(context: Context, job: tuple[Target, Code]) -> None:
    _, pivot = job
    g = context.generator
    local = LocalityLoss(Locality(alpha=3.0), Tune().loss, context)
    offset = torch.zeros(4, *g.synthesis.convs[0].weight.shape, requires_grad=True)
    z = torch.randn(4, g.z_dim, generator=torch.Generator().manual_seed(0))

    class Fixed:
        def normal(self, purpose: str, shape: object) -> torch.Tensor:
            return z

    loss = local(replace(pivot, weights={"convs.0.weight": offset}), Fixed())  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(loss.sum(), offset)
    assert float(loss.detach().max()) < 1e-9
    assert float(gradient.abs().max()) < 1e-4
    away = (local.near(pivot.w, z) - pivot.w).flatten(1).norm(dim=1)
    torch.testing.assert_close(away, torch.full((4,), 3.0))


@pytest.mark.seconds
def test_one_generator_for_several_images(context: Context, job: tuple[Target, Code]) -> None:
    target, pivot = job
    g = context.generator
    result = Tune(steps=12, lr=0.01, together=True)(target, pivot, context)
    assert {len(w) for w in result.code.weights.values()} == {1}
    untuned = (g.render(pivot) - target.images).square().mean(dim=(1, 2, 3))
    tuned = (g.render(result.code) - target.images).square().mean(dim=(1, 2, 3))
    assert (tuned < 0.7 * untuned).all()
    assert torch.equal(result.code.w, pivot.w)
    assert [len(curve) for curve in result.loss] == [12] * 4
    grouped = Tune(steps=8, lr=0.03, together=True, form="low-rank", optimizer="muon", at_once=3)(
        target, pivot, context
    )
    assert [len(curve) for curve in grouped.loss] == [8] * 4
    assert len(grouped.code.weights["convs.0.weight"].left) == 1
    assert ((g.render(grouped.code) - target.images).square().mean(dim=(1, 2, 3)) < 0.7 * untuned).all()
    with pytest.raises(ValueError, match="stop together"):
        Tune(together=True, stop=Stop(below=0.1))


@pytest.mark.seconds
def test_locality_holds_a_shared_generator(context: Context, job: tuple[Target, Code]) -> None:
    target, pivot = job
    g = context.generator
    others = Code(w=g.map(torch.randn(32, g.z_dim, generator=torch.Generator().manual_seed(7)), truncation_psi=0.5))
    moved = []
    for locality in (None, Locality(mse_weight=10.0, distance_weight=1.0, alpha=float(g.w_std) * 2)):
        stage = Tune(steps=8, lr=0.01, together=True, locality=locality)
        tuned = stage(target[:2], pivot[:2], context).code.weights
        moved.append((g.render(Code(w=others.w, weights=tuned)) - g.render(others)).square().mean())
    assert moved[1] < 0.7 * moved[0]
