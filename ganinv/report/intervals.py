"""How certain a mean is: the bootstrap over images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

FEW = 8
"""With fewer images, no interval is given."""
MANY = 2000
"""With more images, the mean is close to normally distributed, and the interval is computed without resampling."""
RESAMPLES = 1000
AT_ONCE = 100
"""Resamples that are drawn together, to limit memory."""


@dataclass(frozen=True)
class Estimate:
    """A mean over ``count`` images, and its 95 % interval from resampled images; NaN if there are too few."""

    mean: float
    low: float
    high: float
    count: int

    @property
    def text(self) -> str:
        """In words: the interval, and the number of images."""
        if np.isnan(self.low):
            return f"of {self.count}: too few for an interval" if self.count else ""
        return f"{self.low:.4g} to {self.high:.4g}, of {self.count}"


def estimate(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Mean and interval of the values [N] that are not NaN."""
    known = values[~np.isnan(values)]
    if not len(known):
        return Estimate(np.nan, np.nan, np.nan, 0)
    mean = float(known.mean())
    if len(known) > MANY:
        around = 1.96 * float(known.std(ddof=1)) / len(known) ** 0.5
        return Estimate(mean, mean - around, mean + around, len(known))
    low, high = _interval([known], lambda drawn: drawn[0].mean(1), resamples, seed)
    return Estimate(mean, low, high, len(known))


def ratio(values: np.ndarray, reference: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Ratio of the means of two methods on the same images [N]. Pairs are resampled, so that the difficulty of an image cancels
    out."""
    both = ~(np.isnan(values) | np.isnan(reference))
    a, b = values[both], reference[both]
    if not len(a) or not b.mean():
        return Estimate(np.nan, np.nan, np.nan, 0)
    low, high = _interval([a, b], lambda drawn: drawn[0].mean(1) / drawn[1].mean(1), resamples, seed)
    return Estimate(float(a.mean() / b.mean()), low, high, len(a))


def _interval(
    columns: list[np.ndarray], of: Callable[[list[np.ndarray]], np.ndarray], resamples: int, seed: int
) -> tuple[float, float]:
    count = len(columns[0])
    if count < FEW:
        return np.nan, np.nan
    rng, found = np.random.default_rng(seed), list[np.ndarray]()
    for first in range(0, resamples, AT_ONCE):
        drawn = rng.integers(count, size=(min(AT_ONCE, resamples - first), count))
        found.append(of([column[drawn] for column in columns]))
    low, high = np.quantile(np.concatenate(found), (0.025, 0.975))
    return float(low), float(high)
