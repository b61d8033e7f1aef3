"""In-Domain inversion: the encoder's opinion of the rendering (docs/methods/in-domain.md)."""

from __future__ import annotations

import pytest
import torch

from ganinv.codes.code import Code
from ganinv.methods.in_domain import InDomainConfig, InDomainEncoder
from ganinv.stages.base import Context
from ganinv.stages.objective import DomainLoss, ReconstructionLoss
from ganinv.stages.optimize import Optimize
from ganinv.target import Target
from tests.tiny import random_w, tiny_generator

CONSTANT = {"lr_rampup": 0.0, "lr_rampdown": 0.0, "latent_noise": 0.0}


@pytest.fixture(scope="module")
def context() -> Context:
    """A generator, and an encoder with batch norm whose statistics are those of some images. It is not trained."""
    g = tiny_generator()
    torch.manual_seed(0)
    encoder = InDomainEncoder(InDomainConfig(resolution=32, w_dim=16, base_channels=8, max_channels=16))
    encoder.train()
    for seed in range(5):
        encoder(g.render(Code(w=random_w(g, 16, seed=seed))))
    encoder.eval().requires_grad_(False)
    return Context(g, lambda name: encoder, lanes=4)


@pytest.fixture(scope="module")
def target(context: Context) -> Target:
    return Target(context.generator.render(Code(w=random_w(context.generator, 4, seed=31))))


def refine(weight: float, steps: int = 15, of: str = "rendering") -> Optimize:
    loss = ReconstructionLoss(domain=DomainLoss(weight=weight, of=of))
    return Optimize(space="w+", start="code", steps=steps, lr=0.01, loss=loss, **CONSTANT)


def opinion(context: Context, code: Code) -> torch.Tensor:
    """mean((w - E(G(w)))^2) per image."""
    with torch.no_grad():
        seen = context.inverter("e4e")(context.generator.render(code)).w
    return (code.w - seen).square().mean(dim=(1, 2))


def test_the_term_is_the_mean_square_of_what_the_encoder_would_change(context: Context, target: Target) -> None:
    code = Code(w=random_w(context.generator, 4))
    with_term, without = (refine(weight, steps=1)(target, code, context) for weight in (2.0, 0.0))
    added = [a[0] - b[0] for a, b in zip(with_term.loss, without.loss, strict=True)]
    assert added == pytest.approx((2 * opinion(context, code)).tolist(), rel=1e-4)
    of_image = refine(2.0, steps=1, of="image")(target, code, context)
    encoded = context.inverter("e4e")(target.images).w
    added = [a[0] - b[0] for a, b in zip(of_image.loss, without.loss, strict=True)]
    assert added == pytest.approx((2 * (code.w - encoded).square().mean(dim=(1, 2))).tolist(), rel=1e-4)


def test_the_gradient_goes_through_encoder_and_generator(context: Context) -> None:
    """Not only to the code directly: against finite differences of the whole term."""
    g, encoder = tiny_generator(dtype=torch.float64), context.inverter("e4e")
    try:
        encoder.double()
        double = Context(g, lambda name: encoder)
        images = g.render(Code(w=random_w(g, 1, seed=31)))
        loss = ReconstructionLoss(distance_weight=0.0, mse_weight=0.0, domain=DomainLoss(weight=2.0))
        objective = loss.prepare(Target(images), double)
        w = random_w(g, 1).requires_grad_(True)

        def term(w: torch.Tensor) -> torch.Tensor:
            code = Code(w=w)
            return objective(g.synthesize(code), code, objective.reference([0]))[0].sum()

        (gradient,) = torch.autograd.grad(term(w), w)
        step = 1e-6 * torch.randn(w.shape, dtype=w.dtype, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            slope = (term(w + step) - term(w - step)) / 2
            direct = (4 * (w - encoder(g.synthesize(Code(w=w))).w) / w.numel() * step).sum()
        assert float(slope) == pytest.approx(float((gradient * step).sum()), rel=1e-4)
        assert abs(float(slope - direct)) > 1e-2 * abs(float(slope))
    finally:
        encoder.float()


def test_the_encoder_stays_what_it_is(context: Context, target: Target) -> None:
    encoder = context.inverter("e4e")
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert any(name.endswith("running_var") for name in before)
    refine(2.0, steps=3)(target, encoder(target.images), context)
    assert not encoder.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


@pytest.mark.seconds
def test_the_loss_falls_on_every_image(context: Context, target: Target) -> None:
    start = context.inverter("e4e")(target.images)
    assert all(curve[-1] < curve[0] for curve in refine(2.0)(target, start, context).loss)


@pytest.mark.slow
def test_more_weight_more_agreement(context: Context, target: Target) -> None:
    """||w - E(G(w))|| does not grow over lambda_dom 0, 2, 10. (``test_on_faces``: and the squared error does not fall.)"""
    start = context.inverter("e4e")(target.images)
    opinions = [float(opinion(context, refine(w, 40)(target, start, context).code).mean()) for w in (0.0, 2.0, 10.0)]
    assert opinions == sorted(opinions, reverse=True)
    assert opinions[2] < 0.9 * opinions[0]


@pytest.mark.seconds
def test_a_batch_equals_single_runs(context: Context, target: Target) -> None:
    start = context.inverter("e4e")(target.images)
    stage = refine(2.0, steps=5)
    together = stage(target, start, context)
    for i in (0, 3):
        alone = stage(target[i : i + 1], start[i], context)
        assert torch.equal(together.code.w[i], alone.code.w[0])
        assert together.loss[i] == alone.loss[0]
