"""How alike two directions are: cosines, and what is left of one when the other is projected out of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ganinv.directions.direction import Direction
from ganinv.errors import ConfigError, GeneratorMismatch


@dataclass(frozen=True)
class Comparison:
    """Two directions of one generator, over what both of them move.

    Args:
        cosine: over all rows together.
        left_of_first, left_of_second: share in [0, 1] of a direction's length that is orthogonal to the other, row by row
            (in S: all layers together), as a conditional edit takes it (InterFaceGAN, "conditional manipulation"). 1 is
            unrelated, 0 is the same.
        rows: W+ rows [start, end) that both move; None where neither has a range.
        row_cosines: one per row (in S: per layer), where there are several that differ; None else.
        step_ratio: step of strength 1 of the first over that of the second, in latent distance per row.
        verified: False when the generator of either was only stated.
    """

    first: str
    second: str
    space: str
    cosine: float
    left_of_first: float
    left_of_second: float
    rows: tuple[int, int] | None
    row_cosines: dict[str, float] | None
    step_ratio: float
    verified: bool

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare_directions(first: Direction, second: Direction) -> Comparison:
    """Compare two directions of one generator in one space (W and W+ are one).

    Raises:
        GeneratorMismatch: they belong to different generators, so that their axes have nothing to do with each other.
        ConfigError: they live in different spaces, or have different numbers of dimensions or rows.
    """
    _check_generators(first, second)
    rows = _common_rows(first, second)
    if first.style_layers is not None and second.style_layers is not None:
        names, a, b = _in_styles(first, second)
    elif first.space.rstrip("+") != second.space.rstrip("+") or "s" in (first.space, second.space):
        raise ConfigError(
            f"{_label(first)} lives in {first.space!r} and {_label(second)} in {second.space!r}: they cannot be compared"
        )
    else:
        a, b = (_rows(d, rows) for d in (first, second))
        if a.shape[1] != b.shape[1]:
            raise ConfigError(f"{_label(first)} has {a.shape[1]} dimensions, {_label(second)} {b.shape[1]}")
        if len(a) != len(b) and 1 not in (len(a), len(b)):
            raise ConfigError(f"{_label(first)} has {len(a)} rows, {_label(second)} {len(b)}")
        a, b = np.broadcast_arrays(a, b)
        names = [str(row) for row in range(rows[0] if rows else 0, (rows[0] if rows else 0) + len(a))]
    cosines = _cosines(a, b)
    differ = len(cosines) > 1 and not np.allclose(cosines, cosines[0], atol=1e-6)
    steps = [d.unit * float(np.sqrt(np.square(v).sum() / max(len(v), 1))) for d, v in ((first, a), (second, b))]
    whole = _cosines(a.reshape(1, -1), b.reshape(1, -1))
    parts = (a, b, cosines)
    if first.style_layers is not None:  # an edit in S is one vector: it is conditioned as a whole
        parts = (a.reshape(1, -1), b.reshape(1, -1), whole)
    return Comparison(
        _label(first),
        _label(second),
        "s" if first.style_layers else first.space if first.space == second.space else "w+",
        float(whole[0]),
        _left(parts[0], parts[2]),
        _left(parts[1], parts[2]),
        rows,
        dict(zip(names, cosines.tolist(), strict=True)) if differ else None,
        steps[0] / steps[1] if steps[1] else float("nan"),
        first.verified and second.verified,
    )


def _check_generators(first: Direction, second: Direction) -> None:
    same = first.generator_fingerprint == second.generator_fingerprint
    if not same or (not first.verified and first.generator_name != second.generator_name):
        one, other = (
            f"{_label(d)} belongs to {d.generator_name!r} ({d.generator_fingerprint[:12]})" for d in (first, second)
        )
        raise GeneratorMismatch(f"{one}, {other}: their latent spaces have different axes, so a cosine says nothing")


def _common_rows(first: Direction, second: Direction) -> tuple[int, int] | None:
    """Rows that both move; None if neither is bound to rows. Raises ConfigError where they share none."""
    ranges = [r for r in (_range(first), _range(second)) if r is not None]
    if not ranges:
        return None
    start, end = max(r[0] for r in ranges), min(r[1] for r in ranges)
    if start >= end:
        shown = ", ".join(f"{r[0]}-{r[1] - 1}" for r in ranges)
        raise ConfigError(
            f"{_label(first)} and {_label(second)} move no common rows ({shown}): an edit never mixes them"
        )
    return start, end


def _range(direction: Direction) -> tuple[int, int] | None:
    if direction.layers is not None:
        return direction.layers
    return (0, len(direction.vector)) if direction.vector.ndim == 2 else None


def _rows(direction: Direction, rows: tuple[int, int] | None) -> np.ndarray:
    """[R, D] over the common rows, float64; one row where it is the same in all."""
    vector = direction.vector.astype(np.float64)
    if vector.ndim == 1 or rows is None:
        return np.atleast_2d(vector)
    first = direction.layers[0] if direction.layers else 0
    return vector[rows[0] - first : rows[1] - first]


def _in_styles(first: Direction, second: Direction) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Layers that either moves, and the styles there as rows of equal length, padded with zeros."""
    parts = [_layers(d) for d in (first, second)]
    names = list(dict.fromkeys([*parts[0], *parts[1]]))
    for name in names:
        widths = {len(part[name]) for part in parts if name in part}
        if len(widths) > 1:
            raise ConfigError(f"layer {name} has {sorted(widths)} channels: the directions are of different generators")
    width = max(len(v) for part in parts for v in part.values())
    out = np.zeros((2, len(names), width))
    for k, part in enumerate(parts):
        for i, name in enumerate(names):
            own = part.get(name, np.zeros(0))
            out[k, i, : len(own)] = own
    return names, out[0], out[1]


def _layers(direction: Direction) -> dict[str, np.ndarray]:
    layers = direction.style_layers or ()
    cuts = np.cumsum([channels for _, channels in layers])[:-1]
    parts = np.split(direction.vector.astype(np.float64), cuts)
    return {name: part for (name, _), part in zip(layers, parts, strict=True)}


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[R], zero where either row is zero."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.divide((a * b).sum(1), lengths, out=np.zeros(len(a)), where=lengths > 0).clip(-1, 1)


def _left(vectors: np.ndarray, cosines: np.ndarray) -> float:
    squares = np.square(vectors).sum(1)
    total = float(squares.sum())
    return float(np.sqrt((squares * (1 - cosines**2)).sum() / total)) if total else 0.0


def _label(direction: Direction) -> str:
    return direction.name if direction.version is None else f"{direction.name}@{direction.version}"
