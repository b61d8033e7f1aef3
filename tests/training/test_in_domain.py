"""In-Domain's encoder in training: beside a discriminator that learns, on either network."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from ganinv.config import validate
from ganinv.errors import ConfigError
from ganinv.methods.in_domain import InDomainEncoder, InDomainLearner, InDomainRecipe
from ganinv.training.batches import MixedBatches
from ganinv.training.trainer import Trainer
from tests.tiny import tiny_generator

NETWORKS = {
    "small": {"backbone": "small", "base_channels": 8, "pyramid_channels": 8, "head_channels": 8},
    "published": {"base_channels": 8, "max_channels": 16},
}


def trainer(network: str = "small", g: Any = None, **other: Any) -> Trainer:
    given = {
        "steps": 4,
        "batch_size": 4,
        "inverter": NETWORKS[network],
        "losses": {"distance": 0},
        "optimizer": {"kind": "adam"},
        **other,
    }
    made, g = validate(InDomainRecipe, given, "test"), g or tiny_generator()
    return Trainer(made, lambda: made.build(g, {}, None), MixedBatches(made.data, g, 4))


@pytest.mark.parametrize("network", NETWORKS)
def test_encoder_and_discriminator_learn_and_the_generator_s_own_stays(network: str) -> None:
    one = trainer(network)
    learner = one.learner
    assert isinstance(learner, InDomainLearner)
    own = learner.generator.discriminator
    assert own is not None
    critic = learner.adversary.critic
    assert critic is not None
    fixed, clone = copy.deepcopy(own.state_dict()), copy.deepcopy(critic.discriminator.state_dict())
    losses = one.step()
    assert losses["adversarial"] > 0
    assert losses["discriminator"] > 0
    assert all(torch.equal(tensor, fixed[name]) for name, tensor in own.state_dict().items())
    learned = critic.discriminator.state_dict()
    assert any(not torch.equal(tensor, clone[name]) for name, tensor in learned.items())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in learner.network.parameters())


def test_the_discriminator_changes_what_the_encoder_learns() -> None:
    with_it, without = trainer(adversarial=1.0), trainer(adversarial=0.0)
    for one in (with_it, without):
        one.step()
    pairs = zip(with_it.learner.network.parameters(), without.learner.network.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


def test_an_untrained_one_gives_the_mean_latent() -> None:
    for network in ({**NETWORKS["published"], "batch_norm": False}, NETWORKS["small"]):
        g = tiny_generator()
        made = validate(InDomainRecipe, {"inverter": network, "losses": {"distance": 0}}, "test").build(g, {}, None)
        assert isinstance(made.network, InDomainEncoder)
        assert [n for n, _ in made.network.named_buffers() if n.endswith("latent_avg")] == ["latent_avg"]
        w = made.network(torch.zeros(2, 3, 32, 32)).w
        torch.testing.assert_close(w, g.w_mean.expand_as(w))


def test_a_generator_without_a_discriminator_needs_one_from_scratch() -> None:
    g = tiny_generator()
    g.discriminator = None
    with pytest.raises(ConfigError, match=r"set critic\.start to scratch"):
        trainer(g=g)
    assert trainer(g=g, critic={"start": "scratch"}).step()["adversarial"] > 0
