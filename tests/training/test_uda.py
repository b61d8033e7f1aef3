"""UDA-Inversion in training: who learns what from which images."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganinv.config import validate
from ganinv.errors import ConfigError
from ganinv.methods.psp import Psp, PspConfig
from ganinv.methods.uda import Uda, UdaLearner, UdaRecipe
from ganinv.training.batches import MixedBatches
from ganinv.training.step import Step
from ganinv.training.trainer import Trainer
from tests.tiny import tiny_generator

DEGRADE = {"choose": [{"kind": "strokes", "count": [3, 3]}], "share": 0.5, "unpaired": True}


def recipe(**other: Any) -> UdaRecipe:
    given = {
        "steps": 6,
        "batch_size": 4,
        "warmup": 0,
        "losses": {"distance": 0},
        "optimizer": {"kind": "adam", "lr": 0.001},
        "critic": {"lr": 0.001},
        "data": {"degrade": DEGRADE, "jitter": False},
        **other,
    }
    return validate(UdaRecipe, given, "test")


def trainer(**other: Any) -> Trainer:
    torch.manual_seed(0)
    g, made = tiny_generator(), recipe(**other)
    encoder = Psp(PspConfig(resolution=32, num_ws=g.num_ws, w_dim=g.w_dim, base_channels=8, pyramid_channels=8), g)
    encoder.latent_avg.copy_(g.w_mean)
    needed = {"encoder": encoder.eval().requires_grad_(False)}

    def build() -> UdaLearner:
        learner = made.build(g, needed, None)
        assert isinstance(learner, UdaLearner)
        with torch.no_grad():  # past the first step, where conditions are zero
            for condition in (learner.network.consultant.scale, learner.network.consultant.shift):
                nn.init.normal_(condition[1].get_parameter("weight"), std=0.2)
        return learner

    return Trainer(made, build, MixedBatches(made.data, g, made.batch_size))


def gradients(one: Trainer, **changed: Tensor) -> tuple[dict[str, tuple[float, Tensor]], list[Tensor | None]]:
    """Terms of the first step on its batch, and the gradients that they give to HFGI's networks."""
    learner, step = one.learner, Step(0, 6)
    learner.network.train()
    batch = one.batches.batch(step)
    if changed:
        assert batch.degraded is not None
        low = batch.degraded[:, None, None, None]
        new = {name: torch.where(low, value, getattr(batch, name)) for name, value in changed.items()}
        batch = replace(batch, **new)
    (terms,) = learner.passes(batch, step)
    sum(weight * value for weight, value in terms.values() if weight).backward()  # type: ignore[union-attr]
    return dict(terms), [p.grad for p in learner.network.parameters()]


@pytest.mark.seconds
def test_hfgi_s_networks_and_the_discrepancy_network_learn_and_nothing_else() -> None:
    one = trainer()
    learner = one.learner
    assert isinstance(learner, UdaLearner)
    assert isinstance(learner.network, Uda)
    assert learner.critic is not None
    told, encoder = copy.deepcopy(learner.critic.network.state_dict()), learner.network.need("encoder").fingerprint
    generator = learner.generator.fingerprint
    losses = one.step()
    assert losses["discrepancy"] > 0
    assert losses["degraded_l2"] > 0
    assert any(not torch.equal(t, told[n]) for n, t in learner.critic.network.state_dict().items())
    assert learner.network.need("encoder").fingerprint == encoder
    assert learner.generator.fingerprint == generator


def test_the_first_step_raises_the_discrepancy_and_the_second_leaves_its_network_alone() -> None:
    one = trainer(critic={"lr": 0.003})
    learner = one.learner
    assert isinstance(learner, UdaLearner)
    assert learner.critic is not None
    source, target = torch.rand(2, 2, 3, 32, 32) * 2 - 1
    before = learner.critic.learn(source, target, Step(0, 6))
    assert learner.critic.discrepancy(source, target) > before
    kept = copy.deepcopy(learner.critic.network.state_dict())
    learner.critic.discrepancy(source.requires_grad_(True), target).abs().backward()
    assert all(torch.equal(t, kept[n]) for n, t in learner.critic.network.state_dict().items())


@pytest.mark.seconds
def test_clean_versions_of_degraded_images_are_never_looked_at() -> None:
    other = torch.full((4, 3, 32, 32), 0.3)
    for mode, same in (("uda", True), ("source-only", True), ("paired", False)):
        (_, as_is), (_, changed) = gradients(trainer(mode=mode)), gradients(trainer(mode=mode), target=other)
        assert equal(as_is, changed) is same, mode


@pytest.mark.seconds
def test_source_only_does_not_look_at_degraded_images_either() -> None:
    other = torch.full((4, 3, 32, 32), 0.3)
    for mode, same in (("uda", False), ("source-only", True)):
        (_, as_is), (_, changed) = gradients(trainer(mode=mode)), gradients(trainer(mode=mode), images=other)
        assert equal(as_is, changed) is same, mode


def equal(one: list[Tensor | None], two: list[Tensor | None]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True) if a is not None and b is not None)


@pytest.mark.seconds
def test_the_discrepancy_has_no_weight_while_it_warms_up() -> None:
    warm, _ = gradients(trainer(warmup=3))
    acting, _ = gradients(trainer())
    assert warm["discrepancy"][0] == 0
    assert acting["discrepancy"][0] == 0.5
    plain, _ = gradients(trainer(mode="source-only"))
    assert "discrepancy" not in plain


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"data": {"real_share": 0.5}}, r"learns from clean and from degraded images: set data\.degrade"),
        ({"data": {"degrade": {**DEGRADE, "share": 1.0}}}, r"needs clean images beside degraded ones"),
    ],
)
def test_a_recipe_of_one_domain_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe(**wrong)


def test_a_batch_of_one_domain_is_refused() -> None:
    with pytest.raises(ConfigError, match="a batch of 1 has images of one domain only: make batch_size larger"):
        trainer(batch_size=1).step()


def test_by_default_half_of_the_images_have_one_of_the_published_degradations() -> None:
    degrade = UdaRecipe().data.degrade
    assert degrade is not None
    assert degrade.unpaired
    assert degrade.share == 0.5
    kinds = [one.kind for one in degrade.choose]  # type: ignore[union-attr]
    assert kinds == ["rain", "strokes", "down"]
