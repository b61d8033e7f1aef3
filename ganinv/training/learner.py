"""The part of a training that is specific to a recipe: networks, critics, the losses of a step, and the validation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganinv.losses.terms import Terms
from ganinv.training.batches import Batch, Images
from ganinv.training.step import Step

AT_ONCE = 16  # images of one pass of a validation


class Player(Protocol):
    """State of a training besides its network, saved in every checkpoint: a critic with its own optimiser, a running mean."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Look:
    """The result of a validation.

    Args:
        error: the number to minimise. measure: what it measures.
        noise: its standard deviation by chance.
        rows: of the strip, images [N, C, R, R] each.
    """

    error: float
    rows: tuple[Tensor, ...]
    noise: float = 0.0
    measure: str = "mse"


class Learner(ABC):
    """One network in training.

    Attributes:
        network: what is trained and saved. Parameters without ``requires_grad`` stay as they are.
        players: by name; their state goes into every checkpoint. They learn within ``passes``.
    """

    network: nn.Module
    players: Mapping[str, Player]

    def begin(self, images: Images | None) -> None:  # noqa: B027 (most need none)
        """Inspect the data set, before the very first step. Results belong into a player, so that a resumed run has them.

        Args:
            images: all real images; None if there are none.
        """

    @abstractmethod
    def passes(self, batch: Batch, step: Step) -> Iterator[Terms]:
        """The losses of each pass, in order. Each is backpropagated before the next is computed, and one optimiser step
        follows the last; a term of weight 0 is only logged."""

    @abstractmethod
    def look(self, seen: Tensor, target: Tensor) -> Look:
        """Validate the network in its current state.

        Args:
            seen: held-out images [N, C, R, R] in [-1, 1] as the network sees them. target: the images to reconstruct.
        """


class PictureLearner(Learner):
    """A learner that is validated by the mean squared error between target pictures and its own."""

    @abstractmethod
    def reconstruct(self, images: Tensor) -> Tensor:
        """Renderings [B, C, R, R] of images [B, C, R, R], as the finished method makes them."""

    def examine(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Target pictures [B, C, R, R] and its own: ``target`` and the reconstructions of ``images``, unless it learns something
        else, as an editor does."""
        return target, self.reconstruct(images)

    def look(self, seen: Tensor, target: Tensor) -> Look:
        pairs = [self.examine(*some) for some in zip(seen.split(AT_ONCE), target.split(AT_ONCE), strict=True)]
        wanted, made = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        return Look(float(F.mse_loss(made, wanted)), (wanted, made) if seen is target else (wanted, seen, made))
