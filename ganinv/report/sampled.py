"""Generated images: some of them, and those with the highest and lowest scores of each attribute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ganinv.generators.stylegan2 import Generator
from ganinv.report.images import render_w
from ganinv.report.inversions import columns_of, floats, read_columns, score_names
from ganinv.report.words import number
from ganinv.store import Collection, tensor_numpy

GRID, ENDS, MOST_ATTRIBUTES = 36, 8, 8


@dataclass(frozen=True)
class Picture:
    image: str
    caption: str


@dataclass(frozen=True)
class Extremes:
    """The samples at both ends of an attribute's score."""

    attribute: str
    top: tuple[Picture, ...]
    bottom: tuple[Picture, ...]


@dataclass(frozen=True)
class Samples:
    """What is shown of a collection of samples.

    Args:
        spread: attribute -> standard deviation of its score over all samples.
        truncation: the truncation, in words.
        attributes: number of attributes with scores; ``extremes`` shows the first ``MOST_ATTRIBUTES``.
    """

    total: int
    truncation: str
    spread: dict[str, float]
    grid: tuple[Picture, ...]
    extremes: tuple[Extremes, ...]
    attributes: int


def read_samples(collection: Collection, generator: Generator) -> Samples | None:
    """Samples, rendered at the truncation at which they were scored; None if there are none, or none of this generator."""
    columns = columns_of(collection)
    attributes = score_names(columns)
    # Latents stay where they are until the few that are shown are known: a collection may hold a million.
    table = read_columns(collection, ["truncation_psi", *(f"score_{a}" for a in attributes)])
    if table is None or "w" not in columns:
        return None
    ids = table["image_id"].to_pylist()
    psi = floats(table, "truncation_psi") if "truncation_psi" in table.schema.names else np.ones(len(ids))
    scores = {a: floats(table, f"score_{a}") for a in attributes}
    chosen = {"": [int(i) for i in np.unique(np.linspace(0, len(ids) - 1, min(GRID, len(ids))).round())]}
    for attribute in attributes[:MOST_ATTRIBUTES]:
        order = [int(i) for i in np.argsort(scores[attribute], kind="stable") if np.isfinite(scores[attribute][i])]
        ends = min(ENDS, len(order) // 2)
        chosen[attribute] = order[::-1][:ends] + order[:ends]
    shown = sorted({row for rows in chosen.values() for row in rows})
    latents = collection.read(["image_id", "w"], [ids[row] for row in shown])
    w = tensor_numpy(latents["w"])
    if w.shape[1:] != (generator.w_dim,):
        return None
    mean = generator.w_mean.detach().cpu().numpy()
    truncated = mean + psi[shown][:, None] * (w - mean)
    images = dict(zip(shown, render_w(generator, truncated), strict=True))
    extremes = []
    for attribute in attributes[:MOST_ATTRIBUTES]:
        pictures = tuple(Picture(images[row], number(float(scores[attribute][row]), 3)) for row in chosen[attribute])
        half = len(pictures) // 2
        extremes.append(Extremes(attribute, pictures[:half], pictures[half:][::-1]))
    return Samples(
        total=len(ids),
        truncation=_truncation(psi),
        spread={a: float(np.nanstd(v)) for a, v in scores.items() if np.isfinite(v).any() and np.nanstd(v) > 0},
        grid=tuple(Picture(images[row], "") for row in chosen[""]),
        extremes=tuple(e for e in extremes if e.top),
        attributes=len(attributes),
    )


def _truncation(psi: np.ndarray) -> str:
    values = np.unique(psi[np.isfinite(psi)])
    if len(values) == 1:
        return f"truncation ψ = {values[0]:g}"
    return f"truncation ψ from {values[0]:g} to {values[-1]:g}" if len(values) else "truncation not recorded"
