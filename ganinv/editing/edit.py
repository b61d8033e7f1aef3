"""``Edit``: named directions with strengths, applied to a ``Code``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ganinv.code import Code
from ganinv.directions.direction import Direction
from ganinv.directions.projection import project_out
from ganinv.errors import ConfigError

Strength = float | Tensor | Sequence[float]


class DirectionLookup(Protocol):
    """Where directions are found by name and generator fingerprint."""

    def get(self, name: str, *, generator: str | None) -> Direction: ...


class HasDirections(Protocol):
    """A store."""

    @property
    def directions(self) -> DirectionLookup: ...


Directions = Mapping[str, Direction] | DirectionLookup | HasDirections


@dataclass(frozen=True)
class Edit:
    """What to change, and by how much.

    Args:
        strengths: direction name -> strength in the direction's units, one for all samples or [B].
        conditions: names of directions to hold still: every direction of the edit is first made orthogonal to them
            (itself excepted), by one Gram solve (InterFaceGAN, "conditional manipulation"). The unit of a step stays
            what it was.
    """

    strengths: Mapping[str, Strength]
    conditions: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if not self.strengths:
            raise ConfigError("an edit needs at least one direction with a strength, such as {'smile': 2.0}")
        if isinstance(self.conditions, str):
            raise ConfigError(f"conditions must be a list of direction names, got the text {self.conditions!r}")

    def apply(self, code: Code, directions: Directions, generator_fingerprint: str | None = None) -> Code:
        """The edited code; noise, style offsets and tuned weights stay as they are.

        Each direction's step is computed on the code as given and the steps are added, so their order does not matter.
        Two absolute directions of one edit reach their coordinates exactly only where they are orthogonal.

        Args:
            directions: a mapping, a lookup with ``get(name, generator=fingerprint)``, or a store that has
                ``directions``.
            generator_fingerprint: of the generator that ``code`` belongs to. None takes the generator of the first
                direction (its newest version); the other directions must be of the same one.

        Raises:
            ConfigError: an unknown direction, or one that does not fit the code.
            GeneratorMismatch: a direction of another generator.
        """
        if generator_fingerprint is None:
            generator_fingerprint = _find(directions, next(iter(self.strengths)), None).generator_fingerprint
        held = {name: _find(directions, name, generator_fingerprint) for name in self.conditions or ()}
        step = torch.zeros_like(code.w)
        for name, strength in self.strengths.items():
            direction = _find(directions, name, generator_fingerprint)
            others = [other for key, other in held.items() if key != name]
            if others:
                direction = conditioned(direction, others)
            step = step + direction.step(code.w, torch.as_tensor(strength))
        return code.with_w(code.w + step)


def conditioned(direction: Direction, conditions: Sequence[Direction]) -> Direction:
    """``direction`` made orthogonal to ``conditions``, row by row where any of them differ by row.

    Its rows have norm 1 and its unit stays what it was.

    Raises:
        ConfigError: the directions have different numbers of dimensions or rows.
        DataError: nothing is left of the direction.
    """
    vectors = [direction.vector, *(condition.vector for condition in conditions)]
    rows = max(len(v) if v.ndim == 2 else 1 for v in vectors)
    if any(v.shape[-1] != vectors[0].shape[-1] or (v.ndim == 2 and len(v) != rows) for v in vectors):
        raise ConfigError(
            f"direction {direction.name!r} of shape {vectors[0].shape} cannot be conditioned on "
            f"{[(c.name, c.vector.shape) for c in conditions]}; they must have one number of dimensions and of rows"
        )
    if all(v.ndim == 1 for v in vectors):
        return direction.with_vector(project_out(vectors[0], np.stack(vectors[1:])))
    by_row = [np.broadcast_to(v, (rows, v.shape[-1])) for v in vectors]
    return direction.with_vector(
        np.stack([project_out(row[0], np.stack(row[1:])) for row in zip(*by_row, strict=True)])
    )


def _find(directions: Directions, name: str, fingerprint: str | None) -> Direction:
    if isinstance(directions, Mapping):
        if name not in directions:
            raise ConfigError(f"no direction {name!r}; there are: {', '.join(sorted(directions)) or 'none'}")
        direction = directions[name]
    else:
        lookup = directions.directions if hasattr(directions, "directions") else directions
        direction = lookup.get(name, generator=fingerprint)
    if fingerprint is not None:
        direction.check(fingerprint)
    return direction
