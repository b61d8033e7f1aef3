"""One step of a training: its number, and its random streams."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Step:
    """Which step of a training this is.

    Every draw of a training comes from ``stream``, so what a step draws is a function of the seed, the step and the worker:
    a run that continues from a checkpoint draws what an undisturbed one would.

    Args:
        number: from 0. total: steps of the whole training.
        rank, world: this worker, and how many there are.
    """

    number: int
    total: int
    seed: int = 0
    rank: int = 0
    world: int = 1

    def stream(self, purpose: str, *, shared: bool = False) -> torch.Generator:
        """A fresh random stream for one purpose within this step, on the CPU; ``shared``: the same for all workers."""
        rank = 0 if shared else self.rank
        key = hashlib.sha256(f"{self.seed}/{self.number}/{rank}/{purpose}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(key[:8], "little") >> 1)
