"""e4e (Tov et al. 2021, "Designing an Encoder for StyleGAN Image Manipulation"): one base latent and a delta per row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from ganinv.codes.code import Code
from ganinv.config import StrictModel
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.terms import Terms
from ganinv.methods.learning import InverterLearner, InverterRecipe, new_inverter
from ganinv.methods.rows import RowEncoder, RowEncoderConfig
from ganinv.training.batches import Batch
from ganinv.training.learner import Learner, Player
from ganinv.training.players import LatentCritic, LatentCriticConfig
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

    @property
    def used(self) -> int:
        return self.stage + 1

    def combine(self, said: list[Tensor]) -> list[Tensor]:
        base, *deltas = said
        rows = [base, *(base + delta for delta in deltas)]
        return rows + [base] * (self.num_ws - len(rows))


class NearW(StrictModel):
    """What holds codes near W (sections 3 and 4): a latent discriminator on single rows, the norm of the deltas, and rows that
    get their delta one after the other. Default weights are the published ones for faces."""

    adversarial: float = Field(0.1, ge=0)
    """Weight of the latent discriminator's opinion; at 0 there is none."""
    critic: LatentCriticConfig = LatentCriticConfig()
    delta: float = Field(2e-4, ge=0)
    """Weight of the norm of the deltas, summed over rows."""
    progressive_start: int = Field(300, ge=0)
    """Until this step all rows are equal (pure W)."""
    progressive_every: int = Field(30, ge=1)
    """Interval, in steps, after which one more row gets its delta."""

    def stage(self, step: int, num_ws: int) -> int:
        """How many rows have their delta: none before ``progressive_start``, then one more at a time."""
        since = step - self.progressive_start
        return 0 if since < 0 else min(num_ws - 1, 1 + since // self.progressive_every)


class NearWTerms:
    """The terms of ``NearW`` on a generator, and the latent discriminator that they need.

    Args:
        finetuning: all rows have their delta from the first step on.
    """

    def __init__(self, settings: NearW, generator: Generator, *, finetuning: bool = False) -> None:
        self.settings, self.num_ws, self.finetuning = settings, generator.num_ws, finetuning
        self.critic = LatentCritic(settings.critic, generator) if settings.adversarial else None

    @property
    def players(self) -> dict[str, Player]:
        return {} if self.critic is None else {"latent critic": self.critic}

    def stage(self, step: Step) -> int:
        return self.num_ws - 1 if self.finetuning else self.settings.stage(step.number, self.num_ws)

    def learn(self, w: Tensor, stage: int, step: Step) -> Tensor | None:
        """One update of the discriminator on codes w; its loss."""
        return None if self.critic is None else self.critic.learn(w.detach(), stage + 1, step)

    def __call__(self, w: Tensor, stage: int, judged: Tensor | None) -> Terms:
        terms: dict[str, tuple[float, Tensor]] = {"stage": (0.0, w.new_tensor(float(stage)))}
        if self.settings.delta:
            terms["delta"] = (self.settings.delta, (w[:, 1:] - w[:, :1]).norm(dim=2).mean(0).sum())
        if self.critic is not None and judged is not None:
            terms["adversarial"] = (
                self.settings.adversarial,
                self.critic.loss(w[:, : stage + 1].flatten(0, 1)),
            )
            terms["discriminator"] = (0.0, judged)
        return terms


class E4eRecipe(NearW, InverterRecipe):
    """Training e4e: the shared losses, and those of ``NearW``."""

    kind: Literal["e4e"] = "e4e"

    def build(self, generator: Generator, needed: Mapping[str, nn.Module], start: nn.Module | None) -> Learner:
        return E4eLearner(self, new_inverter(E4e, self, generator, needed, start), finetuning=start is not None)


class E4eLearner(InverterLearner[E4e, E4eRecipe]):
    """One step of e4e's training.

    Args:
        finetuning: all rows have their delta from the first step on.
    """

    def __init__(self, recipe: E4eRecipe, encoder: E4e, *, finetuning: bool = False) -> None:
        super().__init__(recipe, encoder)
        self.near_w = NearWTerms(recipe, self.generator, finetuning=finetuning)
        self.players = self.near_w.players

    def passes(self, batch: Batch, step: Step) -> Iterator[Terms]:
        stage = self.network.stage = self.near_w.stage(step)
        w = self.network.latents(batch.images)
        judged = self.near_w.learn(w, stage, step)
        code = Code(w=w)
        terms = self.losses(self.generator.synthesize(code), batch, code, rows=stage + 1)
        yield {**terms, **self.near_w(w, stage, judged)}
