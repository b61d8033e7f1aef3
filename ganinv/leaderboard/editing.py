"""Edits of stored inversions, rendered by the editing rule of each method."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.directions.direction import Direction
from ganinv.editing.moves import moved
from ganinv.generators.stylegan2 import Generator
from ganinv.leaderboard.protocol import LeaderboardProtocol
from ganinv.records import CodeReader
from ganinv.store import Store


def directions_of(store: Store, protocol: LeaderboardProtocol, generator: Generator) -> dict[str, Direction]:
    """The directions that the protocol asks for, by name.

    Raises:
        GaninvError: the store has no direction of that name for this generator.
    """
    names = [edit.direction for edit in protocol.edits]
    return {name: store.directions.get(name, generator=generator.fingerprint) for name in names}


def channels_of(store: Store, protocol: LeaderboardProtocol) -> LeaderboardProtocol | None:
    """The protocol with its channels instead of its edits, as far as channels could be fitted; None if there are none."""
    there = {entry["name"] for entry in store.directions.list()}
    channels = tuple(edit for edit in protocol.channels if edit.direction in there)
    return protocol.model_copy(update={"channels": channels}).of_channels if channels else None


class Editor:
    """``editor(code, photos, direction, strength)`` -> images [B, 3, R, R] of codes [B] that were moved along a direction, with
    everything that the method itself does to an edited code.

    Args:
        reader: of the codes; it knows their inverter.
    """

    def __init__(self, reader: CodeReader, generator: Generator, directions: Mapping[str, Direction]) -> None:
        self.reader, self.generator, self.directions = reader, generator, directions
        self._of_mean: dict[tuple[str, float], Tensor] = {}

    @torch.no_grad()
    def __call__(self, code: Code, photos: Tensor, direction: str, strength: float) -> Tensor:
        after = moved(code, [(self.directions[direction], torch.tensor(strength))], self.generator)
        shown = photos if self.reader.edits_need_images else None
        return self.generator.render(self.reader.after_edit(shown, code, after).to(self.generator.device))

    @torch.no_grad()
    def of_mean(self, direction: str, strength: float) -> Tensor:
        """What the edit changes in the image of the generator's mean face, [1, 3, R, R]."""
        key = direction, strength
        if key not in self._of_mean:
            g = self.generator
            mean = Code(w=g.w_mean.expand(1, g.num_ws, -1))
            after = moved(mean, [(self.directions[direction], torch.tensor(strength))], g)
            self._of_mean[key] = g.render(after).clamp(-1, 1) - g.render(mean).clamp(-1, 1)
        return self._of_mean[key]
