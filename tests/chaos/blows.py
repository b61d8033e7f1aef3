"""What is killed, and when: drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Target = Literal["worker", "node", "spot", "driver", "s3"]


@dataclass(frozen=True)
class Blow:
    """One ``kill -9``.

    Args:
        target: a ``spot`` node is told two seconds before, a ``node`` is not.
        after: parts that must be written before.
        delay: seconds that pass then, so that it comes at any moment of a unit.
        down: seconds until an S3 server starts again.
    """

    target: Target
    after: int
    delay: float
    down: float


def draw(seed: int, counts: Mapping[Target, int], parts: int) -> list[Blow]:
    """``counts`` blows in random order, over a run of so many parts; none of them waits for the last third."""
    rng = random.Random(seed)
    targets = [target for target, count in counts.items() for _ in range(count)]
    rng.shuffle(targets)
    moments = sorted(rng.randint(0, int(0.67 * parts)) for _ in targets)
    return [
        Blow(target, after, rng.uniform(0, 2), rng.uniform(0.5, 6))
        for target, after in zip(targets, moments, strict=True)
    ]


def shared_out(kills: int) -> dict[Target, int]:
    """How many of each kind: workers most often, everything at least once."""
    rest = max(0, kills - 5)
    node, driver, s3 = 1 + rest * 2 // 20, 1 + rest * 4 // 20, 1 + rest * 4 // 20
    return {"worker": max(1, kills - 1 - node - driver - s3), "node": node, "spot": 1, "driver": driver, "s3": s3}
