"""An image discriminator beside an inverter, as an option of its recipe: PadInv uses one for scenes, HFGI's paper names one."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import TypeVar

from pydantic import Field
from torch import Tensor

from ganinv.generators.stylegan2 import Generator
from ganinv.losses.terms import Terms
from ganinv.methods.learning import I, InverterLearner, InverterRecipe
from ganinv.training.batches import Batch
from ganinv.training.learner import Player
from ganinv.training.players import ImageCritic, ImageCriticConfig
from ganinv.training.step import Step


class AdversarialRecipe(InverterRecipe, ABC):
    """A recipe with an optional adversarial term."""

    adversarial: float = Field(0.0, ge=0)
    """Weight of the discriminator's opinion of renderings; 0 has none."""
    adversarial_from: int = Field(0, ge=0)
    """The first step at which the discriminator learns and counts."""
    critic: ImageCriticConfig = ImageCriticConfig()


class Adversary:
    """The discriminator of an ``AdversarialRecipe``; without weight there is none, and nothing is computed."""

    def __init__(self, recipe: AdversarialRecipe, generator: Generator) -> None:
        self.recipe = recipe
        self.critic = ImageCritic(recipe.critic, generator) if recipe.adversarial else None

    @property
    def players(self) -> Mapping[str, Player]:
        return {} if self.critic is None else {"image critic": self.critic}

    def terms(self, rendered: Tensor, batch: Batch, step: Step) -> Terms:
        """Learns from renderings [B, C, R, R] and the batch's photos; what the renderings are to lower."""
        if self.critic is None or step.number < self.recipe.adversarial_from:
            return {}
        scale = self.recipe.schedule(step.number, step.total)
        judged = self.critic.learn(rendered, batch.photos, step, scale)
        return {"adversarial": (self.recipe.adversarial, self.critic.loss(rendered)), "discriminator": (0.0, judged)}


A = TypeVar("A", bound=AdversarialRecipe)


class AdversarialLearner(InverterLearner[I, A]):
    """A learner with the discriminator of its recipe. Its ``passes`` ask ``adversary`` for the terms."""

    def __init__(self, recipe: A, inverter: I) -> None:
        super().__init__(recipe, inverter)
        self.adversary = Adversary(recipe, self.generator)
        self.players = self.adversary.players
