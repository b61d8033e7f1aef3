"""Lanes: the images that a descent works on at once, each a problem of its own, and the tensors that they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.codes.parts import map_tensors
from ganinv.optim.batched import State
from ganinv.stages.batches import idle

DRAWS = 32  # steps whose random numbers are drawn at once
REASONS = ("", "cap", "threshold", "plateau", "not_finite")
CAP, THRESHOLD, PLATEAU, NOT_FINITE = 1, 2, 3, 4


@dataclass
class Lane:
    """One image under way, as the host knows it."""

    index: int
    streams: Callable[[str], torch.Generator]
    steps: int = 0
    curve: list[float] = field(default_factory=list)
    _drawn: dict[str, tuple[int, Tensor]] = field(default_factory=dict)

    def normal(self, purpose: str, shape: Sequence[int], like: Tensor) -> Tensor:
        """The draw of this lane's current step. Drawn in blocks, each from a stream of its own."""
        block, offset = divmod(self.steps, DRAWS)
        if self._drawn.get(purpose, (-1,))[0] != block:
            self._drawn[purpose] = block, self.block(purpose, block, shape, like)
        return self._drawn[purpose][1][offset]

    def block(self, purpose: str, number: int, shape: Sequence[int], like: Tensor) -> Tensor:
        """[DRAWS, *shape], where ``like`` is: the draws of that many steps."""
        drawn = torch.randn(DRAWS, *shape, generator=self.streams(f"{purpose}/{number}"))
        if like.is_cuda:  # from pinned memory, so that the host does not wait for the device
            return drawn.pin_memory().to(like, non_blocking=True)
        return drawn.to(like)


@dataclass
class Batch:
    """The lanes' tensors. The last ones may be idle: copies that make up the number."""

    lanes: list[Lane]
    base: Code
    x: tuple[Tensor, ...]
    """Per variable: [B, D]."""
    state: tuple[State, ...]
    reference: Any
    count: Tensor
    """[B] steps done."""
    reason: Tensor
    """[B] of ``REASONS``; 0 is under way."""
    best: Tensor
    """[B] lowest loss so far."""
    mark: Tensor
    """[B] lowest loss when patience last began."""

    def select(self, index: Sequence[int]) -> Batch:
        at = torch.tensor(index, dtype=torch.long, device=self.count.device)
        tensors = map_tensors(self._tensors(), lambda t: t[at])
        return Batch([self.lanes[i] for i in index if i < len(self.lanes)], self.base[at], *tensors)

    def joined(self, other: Batch) -> Batch:
        return Batch(
            self.lanes + other.lanes,
            Code.cat([self.base, other.base]),
            *_cat(self._tensors(), other._tensors()),
        )

    def mapped(self, fn: Callable[[Tensor], Tensor]) -> Batch:
        """The same lanes with ``fn`` applied to every tensor, always in the same order."""
        return Batch(self.lanes, self.base.map(fn), *map_tensors(self._tensors(), fn))

    def tensors(self) -> list[Tensor]:
        """All tensors, in that order."""
        found: list[Tensor] = []
        self.mapped(lambda t: (found.append(t), t)[1])  # type: ignore[func-returns-value]
        return found

    def _tensors(self) -> tuple[Any, ...]:
        return tuple(self.x), tuple(self.state), self.reference, self.count, self.reason, self.best, self.mark

    def real(self) -> Batch:
        """Without idle lanes."""
        return self if len(self.count) == len(self.lanes) else self.select(range(len(self.lanes)))

    def padded(self, most: int, full: bool = False) -> Batch:
        """With idle lanes at the end, so that results keep their bits; up to ``most`` lanes if ``full``."""
        real = len(self.lanes)
        missing = most - real if full else idle(real, most)
        if not missing:
            return self
        out = self.select([*range(real), *[real - 1] * missing])
        out.lanes = self.lanes
        out.reason[real:] = CAP
        return out


class Draws:
    """The random numbers of a batch's lanes, where a recorded step finds them: [B, steps of a block, ...] for each purpose."""

    def __init__(self, batch: Batch) -> None:
        self._lanes = batch.lanes
        self._rows = torch.arange(len(batch.count), device=batch.count.device)
        self._blocks: dict[str, Tensor] = {}
        self._held: dict[str, list[tuple[int, int] | None]] = {}

    def take(self, purpose: str, shape: Sequence[int], batch: Batch) -> Tensor:
        """[B, *shape]: each lane's draw for its step, looked up by the step's number on the device."""
        if purpose not in self._blocks:
            self._blocks[purpose] = batch.base.w.new_zeros(len(batch.count), DRAWS, *shape)
            self._held[purpose] = [None] * len(batch.count)
            self._fill(purpose, self._lanes)
        return self._blocks[purpose][self._rows, batch.count % DRAWS]

    def refresh(self, batch: Batch) -> None:
        """Bring in the blocks of lanes that are new, or that came to their next block: one copy in so many steps."""
        self._lanes = batch.lanes
        for purpose in self._blocks:
            self._fill(purpose, batch.lanes)

    def _fill(self, purpose: str, lanes: Sequence[Lane]) -> None:
        block, held = self._blocks[purpose], self._held[purpose]
        for row, lane in enumerate(lanes):
            number = lane.steps // DRAWS
            if held[row] != (lane.index, number):
                block[row].copy_(lane.block(purpose, number, block.shape[2:], block), non_blocking=True)
                held[row] = lane.index, number


def _cat(a: Any, b: Any) -> Any:
    """Two trees of tensors, joined along the first dimension."""
    if isinstance(a, Tensor):
        return torch.cat([a, b])
    if isinstance(a, dict):
        return {key: _cat(a[key], b[key]) for key in a}
    return tuple(_cat(x, y) for x, y in zip(a, b, strict=True))
