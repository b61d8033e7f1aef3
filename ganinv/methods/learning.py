"""The recipe and learner that most inverters share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Generic, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ganinv.config import validate
from ganinv.errors import ConfigError
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.terms import LossConfig, Losses, Terms
from ganinv.methods.base import Inverter
from ganinv.methods.trunks import begin_trunks
from ganinv.training.batches import Batch
from ganinv.training.learner import Learner, PictureLearner, Player
from ganinv.training.product import Given
from ganinv.training.recipe import Recipe
from ganinv.training.step import Step


class InverterRecipe(Recipe, ABC):
    """How one kind of inverter is trained; a method's file subclasses it and narrows ``kind``.

    ``inverter`` holds what the method's ``Config`` leaves open (widths, a backbone); sizes follow from the generator.
    """

    makes: ClassVar[str] = "encoders"

    inverter: Mapping[str, Any] = Field(default_factory=dict)
    trunk_weights: str | None = None
    """File of the weights that a published backbone starts from: ArcFace's IR-SE-50, or torchvision's ResNet-34."""
    losses: LossConfig = LossConfig()

    def learner(self, given: Given) -> Learner:
        return self.build(given.known_generator, given.needed, given.start)

    @abstractmethod
    def build(self, generator: Generator, needed: Mapping[str, nn.Module], start: nn.Module | None) -> Learner:
        """The learner at its first step. Random weights come from torch's global stream, which the trainer seeds.

        Args:
            needed: frozen inverters by role.
            start: an inverter of this kind to start from.
        """


I = TypeVar("I", bound=Inverter)  # noqa: E741
R = TypeVar("R", bound=InverterRecipe)


class InverterLearner(PictureLearner, Generic[I, R]):
    """Renders the code of each pass and measures it by the recipe's losses: pSp's and ReStyle's training as it is.

    A method with a different training overrides ``passes``, or adds to ``terms``.
    """

    network: I

    def __init__(self, recipe: R, inverter: I) -> None:
        self.recipe, self.network = recipe, inverter
        self.generator = inverter.generator
        self.losses = Losses(recipe.losses, self.generator)
        self.players: Mapping[str, Player] = {}

    def passes(self, batch: Batch, step: Step) -> Iterator[Terms]:
        for code in self.network.refine(batch.images, detach=True):
            yield self.losses(self.generator.synthesize(code), batch, code)

    def reconstruct(self, images: Tensor) -> Tensor:
        return self.generator.synthesize(self.network(images)).clamp(-1, 1)


def new_inverter(
    cls: type[I],
    recipe: InverterRecipe,
    generator: Generator,
    needed: Mapping[str, nn.Module],
    start: nn.Module | None,
) -> I:
    """An inverter to train: untrained of the recipe's shape, or with the weights of ``start``.

    Raises:
        ConfigError: the recipe's ``inverter`` does not fit the method or the generator, ``start`` is of another kind or
            shape, or something that the method needs is missing.
    """
    given: dict[str, Any] = {**recipe.inverter}
    config = validate(cls.Config, cls.Config.for_generator(generator, given), f"recipe {recipe.kind!r}: inverter")
    roles = {role: one for role, one in needed.items() if isinstance(one, Inverter)}
    inverter = cls(config, generator, roles)
    for role in cls.needs:
        inverter.need(role)
    if start is not None:
        if type(start) is not cls:
            kind = start.cfg.kind if isinstance(start, Inverter) else type(start).__name__
            raise ConfigError(f"the recipe trains a {recipe.kind}, and start is a {kind}: give one of the same kind")
        if start.cfg != config:
            raise ConfigError(f"start has another shape than the recipe: {start.cfg!r} and {config!r}")
        inverter.load_state_dict(start.state_dict())
    else:
        begin_at_mean(inverter, generator)
        if recipe.trunk_weights is not None:
            begin_trunks(inverter, recipe.trunk_weights)
    return inverter.to(generator.device).train()


@torch.no_grad()
def begin_at_mean(inverter: Inverter, generator: Generator) -> None:
    """Make an untrained encoder return the mean latent (its offsets are zero), and call its ``begin``."""
    for name, buffer in inverter.named_buffers():
        if name.rpartition(".")[2] == "latent_avg":
            buffer.copy_(generator.w_mean)
    inverter.begin()
