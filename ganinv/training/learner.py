"""What a method brings to a training: its networks, its critics, and the losses of one step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from ganinv.losses.terms import Terms
from ganinv.training.batches import Batch
from ganinv.training.step import Step


class Player(Protocol):
    """A second player with an optimiser of its own: a latent or image discriminator, a discrepancy net."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Learner(Protocol):
    """One method in training.

    Attributes:
        network: what is trained and saved. Parameters without ``requires_grad`` stay as they are.
        players: by name; their state goes into every checkpoint. They learn within ``passes``.
    """

    players: Mapping[str, Player]

    @property
    def network(self) -> nn.Module: ...

    def passes(self, batch: Batch, step: Step) -> Iterator[Terms]:
        """The losses of each pass, in order. Each is backpropagated before the next is asked for, and one optimiser step
        follows the last; a term of weight 0 is only logged."""
        ...

    def reconstruct(self, images: Tensor) -> Tensor:
        """Renderings [B, C, R, R] of images [B, C, R, R], as the finished method makes them: for validation and pictures."""
        ...

    def examine(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """What the finished method is judged by: pictures [B, C, R, R] as they should be, and as it makes them. ``target`` and
        the reconstructions of ``images``, unless it learns something else: an editor's are edits."""
        ...
