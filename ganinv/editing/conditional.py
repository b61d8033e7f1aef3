"""Conditional edits: a direction made orthogonal to those that must not change (InterFaceGAN, Shen et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ganinv.directions.direction import Direction
from ganinv.directions.fitting.projection import project_out
from ganinv.errors import ConfigError


def conditioned(direction: Direction, conditions: Sequence[Direction]) -> Direction:
    """``direction`` made orthogonal to ``conditions`` by one Gram solve; row by row where any of them differ by row.

    Its rows keep their norms and its unit stays what it was, so a step is as long as before.

    Raises:
        ConfigError: the directions live in different spaces, or have different numbers of dimensions or rows.
        DataError: the direction vanishes.
    """
    family = direction.space.rstrip("+")
    for condition in conditions:
        if condition.space.rstrip("+") != family:
            raise ConfigError(
                f"direction {direction.name!r} lives in {direction.space!r} and cannot be made orthogonal to "
                f"{condition.name!r} in {condition.space!r}; condition it on directions of its own space"
            )
    if family == "s":
        return _in_styles(direction, conditions)
    if any(c.vector.shape[-1] != direction.vector.shape[-1] for c in conditions):
        raise ConfigError(_misfit(direction, conditions))
    if all(d.vector.ndim == 1 for d in (direction, *conditions)):
        return direction.with_vector(_projected(direction.vector, [c.vector for c in conditions]))
    start, end = _rows(direction, conditions)
    rows = []
    for row in range(start, end):
        own = direction.vector if direction.vector.ndim == 1 else direction.vector[row - start]
        rows.append(_projected(own, [v for c in conditions if (v := _row(c, row)) is not None]))
    return direction.with_vector(np.stack(rows))


def _projected(vector: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    norm = np.linalg.norm(vector.astype(np.float64))
    # A row that does not move needs no condition.
    return project_out(vector, np.stack(others)) * norm if others and norm else vector


def _rows(direction: Direction, conditions: Sequence[Direction]) -> tuple[int, int]:
    """The rows that the direction moves."""
    whole = {len(d.vector) for d in (direction, *conditions) if d.vector.ndim == 2 and d.layers is None}
    if len(whole) > 1:
        raise ConfigError(_misfit(direction, conditions))
    if direction.layers is not None:
        return direction.layers
    count = whole.pop() if whole else direction.num_ws
    if count is None:
        raise ConfigError(
            f"direction {direction.name!r} moves all rows and a condition only some: state its rows, as in "
            f"{direction.name}(0-7)"
        )
    return 0, count


def _row(condition: Direction, row: int) -> np.ndarray | None:
    """A condition's vector in one row; None if it has none."""
    if condition.vector.ndim == 1:
        return condition.vector
    at = row - (condition.layers[0] if condition.layers else 0)
    return condition.vector[at] if 0 <= at < len(condition.vector) else None


def _in_styles(direction: Direction, conditions: Sequence[Direction]) -> Direction:
    """In S a direction is one vector: the layers of all of them, one after the other."""
    layers: dict[str, int] = {}
    for d in (direction, *conditions):
        for name, channels in d.style_layers or ():
            if layers.setdefault(name, channels) != channels:
                raise ConfigError(_misfit(direction, conditions))
    vectors = [_spread(d, layers) for d in (direction, *conditions)]
    return replace(direction, vector=_projected(vectors[0], vectors[1:]), style_layers=tuple(layers.items()))


def _spread(direction: Direction, layers: dict[str, int]) -> np.ndarray:
    own = direction.style_layers or ()
    parts = dict(zip([n for n, _ in own], np.split(direction.vector, np.cumsum([c for _, c in own])[:-1]), strict=True))
    return np.concatenate([parts.get(name, np.zeros(channels, np.float32)) for name, channels in layers.items()])


def _misfit(direction: Direction, conditions: Sequence[Direction]) -> str:
    return (
        f"direction {direction.name!r} of shape {direction.vector.shape} cannot be conditioned on "
        f"{[(c.name, c.vector.shape) for c in conditions]}; they must have one number of dimensions and of rows"
    )
