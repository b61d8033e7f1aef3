"""e4e (Tov et al. 2021, "Designing an Encoder for StyleGAN Image Manipulation"): one base latent and a delta per row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from ganinv.codes.code import Code
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.terms import Terms
from ganinv.methods.learning import InverterLearner, new_inverter
from ganinv.methods.rows import RowEncoder, RowEncoderConfig
from ganinv.training.batches import Batch
from ganinv.training.learner import Learner
from ganinv.training.players import LatentCritic, LatentCriticConfig
from ganinv.training.recipe import Recipe
from ganinv.training.step import Step


class E4eConfig(RowEncoderConfig):
    """The shape of an e4e encoder: on a small backbone, or in the published form on IR-SE-50."""

    kind: Literal["e4e"] = "e4e"


class E4e(RowEncoder):
    """``e4e(images [B, 3, R, R] in [-1, 1]) -> Code``; ``latents(images)`` gives its w [B, num_ws, w_dim].

    Row 0 is the base, row i the base plus delta i; ``latent_avg`` is added at the end. Rows up to ``stage`` have their
    delta (progressive training, section 3.1); inference uses all.
    """

    Config = E4eConfig

    def build(self) -> None:
        super().build()
        self.stage = self.num_ws - 1

    def combine(self, maps: list[Tensor]) -> list[Tensor]:
        base = self.heads[0](maps[0])
        deltas = (self.heads[i](maps[i]) for i in range(1, self.stage + 1))
        rows = [base, *(base + delta for delta in deltas)]
        return rows + [base] * (self.num_ws - len(rows))


class E4eRecipe(Recipe):
    """Training e4e (sections 3 and 4): the shared losses, a latent discriminator on single rows, the norm of the deltas, and
    rows that get their delta one after the other. Default weights are the published ones for faces."""

    kind: Literal["e4e"] = "e4e"
    adversarial: float = Field(0.1, ge=0)
    """Weight of the latent discriminator's opinion."""
    critic: LatentCriticConfig = LatentCriticConfig()
    delta: float = Field(2e-4, ge=0)
    """Weight of the norm of the deltas, summed over rows."""
    progressive_start: int = Field(300, ge=0)
    """Until this step all rows are equal (pure W)."""
    progressive_every: int = Field(30, ge=1)
    """Then one more row gets its delta every so many steps."""

    def build(self, generator: Generator, needed: Mapping[str, nn.Module], start: nn.Module | None) -> Learner:
        return E4eLearner(self, new_inverter(E4e, self, generator, needed, start), finetuning=start is not None)


class E4eLearner(InverterLearner[E4e, E4eRecipe]):
    """One step of e4e's training.

    Args:
        finetuning: all rows have their delta from the first step on.
    """

    def __init__(self, recipe: E4eRecipe, encoder: E4e, *, finetuning: bool = False) -> None:
        super().__init__(recipe, encoder)
        self.finetuning = finetuning
        self.critic = LatentCritic(recipe.critic, self.generator)
        self.players = {"latent critic": self.critic}

    def passes(self, batch: Batch, step: Step) -> Iterator[Terms]:
        stage = self.network.stage = self._stage(step)
        w = self.network.latents(batch.images)
        judged = self.critic.learn(w.detach(), stage + 1, step)
        code = Code(w=w)
        terms = self.losses(self.generator.synthesize(code), batch, code)
        adversarial = self.critic.loss(w[:, : stage + 1].flatten(0, 1))
        deltas = (w[:, 1:] - w[:, :1]).norm(dim=2).mean(0).sum()
        yield {
            **terms,
            "adversarial": (self.recipe.adversarial, adversarial),
            "delta": (self.recipe.delta, deltas),
            "discriminator": (0.0, judged),
            "stage": (0.0, judged.new_tensor(float(stage))),
        }

    def _stage(self, step: Step) -> int:
        """How many rows have their delta now: none before ``progressive_start``, then one more at a time."""
        last = self.generator.num_ws - 1
        since = step.number - self.recipe.progressive_start
        if self.finetuning:
            return last
        return 0 if since < 0 else min(last, 1 + since // self.recipe.progressive_every)
