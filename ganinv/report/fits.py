"""The directions of a generator: how well each was fitted, and how alike they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ganinv.directions.direction import Direction
from ganinv.errors import GaninvError
from ganinv.report.words import number
from ganinv.store import Store

MOST_COMPARED = 24

QUALITY = (
    ("validation_accuracy", "Held-out accuracy", "of the score's tails, not used in the fit"),
    ("remaining_accuracy", "Remaining accuracy", "of all samples outside the tails"),
    ("validation_correlation", "Correlation", "predicted and true score, held out"),
    ("stability", "Stability", "mean cosine with bootstrap refits"),
    ("variance_ratio", "Variance", "share of the samples' variance in W"),
)
"""Key in the report of a fit, its label, and what it means."""


@dataclass(frozen=True)
class Fit:
    direction: Direction
    samples: int | None
    quality: dict[str, float]

    @property
    def name(self) -> str:
        return self.direction.name

    @property
    def rows(self) -> str:
        """W+ rows that the direction moves, in words."""
        layers = self.direction.layers
        return "all" if layers is None else f"{layers[0]}–{layers[1] - 1}"

    def text(self, key: str) -> str:
        return number(self.quality.get(key), 3)

    @property
    def unit(self) -> str:
        return number(float(self.direction.unit), 3)


def read_fits(store: Store, fingerprint: str, notes: list[str]) -> list[Fit]:
    """The newest version of each direction of one generator, without deprecated ones; the best separated come first."""
    newest: dict[str, int] = {}
    try:
        for record in store.directions.list():
            if record.get("generator_fingerprint") == fingerprint and record["deprecated"] is None:
                newest[str(record["name"])] = int(record["version"])
        fits = [_fit(store.directions.get(name, fingerprint, version)) for name, version in newest.items()]
    except GaninvError as error:
        notes.append(f"The directions are left out: {error}")
        return []
    return sorted(fits, key=lambda fit: (-fit.quality.get("validation_accuracy", -1.0), fit.name))


def measured(fits: Sequence[Fit]) -> list[tuple[str, str, str]]:
    """The entries of ``QUALITY`` that at least one fit has."""
    return [entry for entry in QUALITY if any(entry[0] in fit.quality for fit in fits)]


def cosines(fits: Sequence[Fit]) -> np.ndarray:
    """[N, N]: cosine of every pair of directions. A direction with one vector per row is represented by the mean of its
    rows."""
    vectors = [fit.direction.vector.reshape(-1, fit.direction.vector.shape[-1]).mean(0) for fit in fits]
    unit = np.stack([vector / max(float(np.linalg.norm(vector)), 1e-12) for vector in vectors])
    return np.asarray(unit @ unit.T)


def comparable(fits: Sequence[Fit]) -> list[Fit]:
    """Directions in one space, which therefore have cosines: the first ``MOST_COMPARED`` in W or W+."""
    plain = [fit for fit in fits if fit.direction.space in ("w", "w+")]
    width = plain[0].direction.vector.shape[-1] if plain else 0
    return [fit for fit in plain if fit.direction.vector.shape[-1] == width][:MOST_COMPARED]


def _fit(direction: Direction) -> Fit:
    report = direction.report
    quality = {key: float(report[key]) for key, _, _ in QUALITY if isinstance(report.get(key), int | float)}
    samples = report.get("samples")
    return Fit(direction, samples if isinstance(samples, int) else None, quality)
