"""What a recipe brings to a training: networks, critics, the losses of one step, and what it is judged by."""

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
    """What a training keeps beside its network, in every checkpoint: a critic with an optimiser of its own, a running mean."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Look:
    """What a validation found.

    Args:
        error: what is to become small. measure: what it is.
        noise: by how much chance moves it (one standard deviation).
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
        """Look at the data set, before the first step of all; what was found is a player's, for those who resume.

        Args:
            images: all real images; None if there are none.
        """

    @abstractmethod
    def passes(self, batch: Batch, step: Step) -> Iterator[Terms]:
        """The losses of each pass, in order. Each is backpropagated before the next is asked for, and one optimiser step
        follows the last; a term of weight 0 is only logged."""

    @abstractmethod
    def look(self, seen: Tensor, target: Tensor) -> Look:
        """What the network as it is now is worth.

        Args:
            seen: held-out images [N, C, R, R] in [-1, 1] as it sees them. target: as they are to become.
        """


class PictureLearner(Learner):
    """One that is judged by pictures as they should be, and as it makes them: the squared error, mean over all."""

    @abstractmethod
    def reconstruct(self, images: Tensor) -> Tensor:
        """Renderings [B, C, R, R] of images [B, C, R, R], as the finished method makes them."""

    def examine(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures [B, C, R, R] as they should be, and as it makes them: ``target`` and the reconstructions of ``images``, unless
        it learns something else, as an editor does."""
        return target, self.reconstruct(images)

    def look(self, seen: Tensor, target: Tensor) -> Look:
        pairs = [self.examine(*some) for some in zip(seen.split(AT_ONCE), target.split(AT_ONCE), strict=True)]
        wanted, made = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        return Look(float(F.mse_loss(made, wanted)), (wanted, made) if seen is target else (wanted, seen, made))
