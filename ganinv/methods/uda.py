"""UDA-Inversion (Xing et al. 2022, "GAN Inversion for Image Editing via Unsupervised Domain Adaptation"): HFGI's networks, which
learn from clean images, and to treat degraded ones alike without ever seeing those clean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from ganinv.codes.code import Code
from ganinv.config import StrictModel
from ganinv.degradations.degrade import DegradeConfig
from ganinv.degradations.holes import Strokes
from ganinv.degradations.rain import Rain
from ganinv.degradations.sampling import Down
from ganinv.errors import ConfigError
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.discrepancy import DISCREPANCIES, FeaturesName
from ganinv.losses.terms import Terms
from ganinv.methods.hfgi import Hfgi, HfgiConfig
from ganinv.methods.learning import InverterLearner, InverterRecipe, new_inverter
from ganinv.training.batches import Batch, DataConfig
from ganinv.training.learner import Learner
from ganinv.training.parallel import average_gradients
from ganinv.training.step import Step


class UdaConfig(HfgiConfig):
    """The shape of UDA-Inversion, which is HFGI's."""

    kind: Literal["uda"] = "uda"  # type: ignore[assignment]


class Uda(Hfgi):
    """``uda(images [B, C, R, R] in [-1, 1], of whatever quality) -> Code``: HFGI's networks, trained another way. What is wrong
    with an image is in its residual, and is not brought back."""

    Config = UdaConfig


class DiscrepancyConfig(StrictModel):
    """The network that tells reconstructions of the two domains apart."""

    features: FeaturesName = "embedded"
    """What it is compared with: the generator's discriminator, or AlexNet by LPIPS, as published."""
    lr: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.95, 0.999)


class DiscrepancyCritic:
    """The second player: it learns to raise the discrepancy that the first one lowers."""

    def __init__(self, cfg: DiscrepancyConfig, generator: Generator) -> None:
        self.cfg, self.discrepancy = cfg, DISCREPANCIES[cfg.features](generator)
        self.network = self.discrepancy.network.requires_grad_(True)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=cfg.lr, betas=cfg.betas)
        self.network.requires_grad_(False)

    def learn(self, source: Tensor, target: Tensor, step: Step, scale: float = 1.0) -> Tensor:
        """One update on reconstructions of clean and of degraded images [B, C, R, R], both detached. Returns the discrepancy
        before it, detached.

        Args:
            scale: factor of the learning rate.
        """
        self.network.requires_grad_(True)
        found = self.discrepancy(source.detach(), target.detach())
        for group in self.optimizer.param_groups:
            group["lr"] = self.cfg.lr * scale
        self.optimizer.zero_grad(set_to_none=True)
        (-found).backward()
        average_gradients(self.network.parameters(), step.world)
        self.optimizer.step()
        self.network.requires_grad_(False)
        return found.detach()

    def state_dict(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])


def _two_domains() -> DataConfig:
    """Half of the images clean, the other half with one of the published degradations."""
    lost = DegradeConfig(choose=(Rain(), Strokes(), Down()), share=0.5, unpaired=True)
    return DataConfig(jitter=False, degrade=lost)


class UdaRecipe(InverterRecipe):
    """Training UDA-Inversion (section 3): supervised on clean images; on degraded ones only by the discrepancy between what is
    made of both. Only the aligner and the consultation encoder learn."""

    kind: Literal["uda"] = "uda"
    needed: Mapping[str, str] = Field(default_factory=lambda: {"encoder": "e4e"})
    data: DataConfig = Field(default_factory=_two_domains)
    mode: Literal["uda", "source-only", "paired"] = "uda"
    """What is compared with in the paper: ``source-only`` never looks at degraded images, ``paired`` is told their clean ones."""
    discrepancy: float = Field(0.5, ge=0)
    """Weight of the discrepancy's magnitude."""
    warmup: int = Field(100, ge=0)
    """Steps in which the discrepancy network learns and has no weight yet. The published code has none."""
    critic: DiscrepancyConfig = DiscrepancyConfig()
    alignment: float = Field(0.0, ge=0)
    """Weight of the mean absolute difference between the aligned residual and the one before."""

    @model_validator(mode="after")
    def _check(self) -> UdaRecipe:
        if self.data.degrade is None:
            raise ValueError(
                "UDA-Inversion learns from clean and from degraded images: set data.degrade, such as {choose: [{kind: rain}], "
                "share: 0.5, unpaired: true}, or train hfgi"
            )
        if self.data.degrade.share == 1:
            raise ValueError("UDA-Inversion needs clean images beside degraded ones: set data.degrade.share below 1")
        return self

    def build(self, generator: Generator, needed: Mapping[str, nn.Module], start: nn.Module | None) -> Learner:
        return UdaLearner(self, new_inverter(Uda, self, generator, needed, start))


class UdaLearner(InverterLearner[Uda, UdaRecipe]):
    """One step of UDA-Inversion: the discrepancy network's, then that of HFGI's networks."""

    def __init__(self, recipe: UdaRecipe, inverter: Uda) -> None:
        super().__init__(recipe, inverter)
        self.critic = None
        if recipe.mode == "uda":
            self.critic = DiscrepancyCritic(recipe.critic, self.generator)
            self.players = {"discrepancy": self.critic}

    def passes(self, batch: Batch, step: Step) -> Iterator[Terms]:
        recipe, uda = self.recipe, self.network
        low, images, target = _degraded(batch), batch.images, batch.target
        if recipe.mode == "source-only":  # degraded images would act on the statistics of normalisation
            low, images, target = low[~low], images[~low], target[~low]
        with torch.no_grad():
            code = uda.need("encoder")(images)
            residual, first = uda.residual(images, code)
        aligned = uda.align(residual, first)
        rendered = self.generator.synthesize(replace(code, features=uda.conditions(aligned)))
        told = torch.ones_like(low) if recipe.mode == "paired" else ~low
        known = Batch(images[told], target[told])
        terms = dict(self.losses(rendered[told], known, Code(w=code.w[told])))
        terms["alignment"] = (recipe.alignment, F.l1_loss(aligned[told], residual[told]))
        if low.any():
            with torch.no_grad():
                terms["degraded_l2"] = (0.0, F.mse_loss(rendered[low], target[low]))
        if self.critic is not None:
            terms |= self._discrepancy(rendered[~low], rendered[low], step)
        yield terms

    def _discrepancy(self, source: Tensor, target: Tensor, step: Step) -> Terms:
        """The discrepancy, after the network that sees it has learned; and both of its distances."""
        assert self.critic is not None
        recipe, measure = self.recipe, self.critic.discrepancy
        found = self.critic.learn(source, target, step, recipe.rate(step.number, step.total))
        if step.number < recipe.warmup:
            return {"discrepancy": (0.0, found.abs())}
        now = measure(source, target)
        return {"discrepancy": (recipe.discrepancy, now.abs()), "discrepancy_before": (0.0, found)}


def _degraded(batch: Batch) -> Tensor:
    """Which images are degraded, bool [B]."""
    low = batch.degraded
    if low is None or low.all() or not low.any():
        raise ConfigError(
            f"a batch of {len(batch)} has images of one domain only: make batch_size larger, or data.degrade.share nearer to "
            "0.5"
        )
    return low
