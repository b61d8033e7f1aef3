"""The distance of codes to a generator's own styles (LSAP), on a small generator and on the embedded one."""

from __future__ import annotations

import pytest
import torch

from ganinv.codes.code import Code
from ganinv.config import validate
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.losses.alignment import StyleAlignment
from ganinv.losses.terms import LossConfig, Losses
from ganinv.methods.e4e import E4eRecipe
from ganinv.stages.method import MethodConfig, open_method
from ganinv.target import Target
from ganinv.training.batches import MixedBatches
from ganinv.training.trainer import Trainer
from tests.tiny import random_w, tiny_generator


@pytest.mark.seconds
def test_samples_are_at_their_own_level_and_the_mean_face_below() -> None:
    g = open_generator(EMBEDDED)
    measure = StyleAlignment(g, 20_000)
    assert measure.names == (*(f"convs.{k}" for k in range(9)), "torgbs.4")
    w = random_w(g, 4000, seed=9)
    with torch.no_grad():
        level = measure.distances(w).mean(0)
        torch.testing.assert_close(level, measure.levels, atol=0, rtol=0.05)
        assert float(measure.ratio(w).mean()) == pytest.approx(1, abs=0.05)
        half = measure.ratio(g.w_mean + 0.7 * (w - g.w_mean)).mean()
        assert float(half) == pytest.approx(0.5, abs=0.05)
        assert float(measure.distances(g.w_mean.expand(1, 10, -1)).max()) < 0.01
        wide = g.w_mean + 1.5 * (w[:, :1] - g.w_mean).std(0) * torch.randn(4000, 1, 128)
        far = measure.distances(wide.expand(-1, 10, -1)).mean(0)
    assert (far[:9] > measure.levels[:9]).all()


def test_only_what_exceeds_the_samples_counts() -> None:
    g = tiny_generator()
    measure = StyleAlignment(g, 500)
    mean = g.w_mean.expand(2, g.num_ws, -1)
    assert float(measure.loss(mean)) == 0
    away = mean + 5 * torch.randn(mean.shape, generator=torch.Generator().manual_seed(1))
    assert float(measure.loss(away)) > 0
    products = [(style @ anchor).mean() for style, anchor in zip(measure.styles(away), measure.anchors, strict=True)]
    torch.testing.assert_close(measure.loss(away, 2, beyond_samples=False), 2 - products[0] - products[1])
    assert torch.equal(StyleAlignment(g, 500).levels, measure.levels)


def test_any_recipe_switches_it_on_and_the_critic_off() -> None:
    g = tiny_generator()
    given = {
        "steps": 3,
        "batch_size": 2,
        "adversarial": 0,
        "progressive_start": 0,
        "inverter": {"base_channels": 8, "pyramid_channels": 8},
        "losses": {"distance": 0, "alignment": 0.5, "alignment_samples": 200, "alignment_beyond_samples": False},
    }
    recipe = validate(E4eRecipe, given, "test")
    trainer = Trainer(recipe, lambda: recipe.build(g, {}, None), MixedBatches(recipe.data, g, 2))
    losses = trainer.step()
    assert losses["alignment"] > 0
    assert "adversarial" not in losses
    assert trainer.state()["players"] == {}


def test_gradients_reach_the_code() -> None:
    g = tiny_generator()
    losses = Losses(validate(LossConfig, {"l2": 0, "distance": 0, "alignment": 1, "alignment_samples": 100}, "test"), g)
    w = (random_w(g, 2) * 3).requires_grad_()
    images = torch.zeros(2, 3, 32, 32)
    batch = type("Batch", (), {"target": images, "true_w": None})()
    ((weight, value),) = losses(images, batch, Code(w=w)).values()
    (gradient,) = torch.autograd.grad(weight * value, w)
    assert gradient.abs().sum() > 0


@pytest.mark.seconds
def test_optimised_codes_stay_near_the_samples() -> None:
    g = tiny_generator()
    target = Target(g.render(Code(w=random_w(g, 3, seed=4) + 2 * torch.randn(3, g.num_ws, g.w_dim))))
    ratios = {}
    for weight in (0.0, 1.0):
        loss = {"distance_weight": 0, "alignment_weight": weight}
        stage = {"kind": "optimize", "space": "w+", "start": "mean", "steps": 20, "lr": 0.2, "loss": loss}
        cfg = validate(MethodConfig, {"name": "held", "summary": "held", "space": "w+", "stages": [stage]}, "test")
        together = open_method(cfg, g).invert(target)
        alone = open_method(cfg, g).invert(target.some([1]))
        assert torch.equal(together.code.w[1:2], alone.code.w)
        ratios[weight] = StyleAlignment(g, 2000).ratio(together.code.w)
    assert (ratios[1.0] < ratios[0.0]).all()
