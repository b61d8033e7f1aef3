"""First and second moments of feature vectors, accumulated in float64 and merged across shards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ganinv.errors import DataError


@dataclass(frozen=True)
class Moments:
    """n, sum of x [D] and sum of x x^T [D, D]: everything a mean, a covariance or a PCA needs of any number of rows.

    Sums of shards add up to the sums of the whole, so ``a + b`` is the accumulation over both (up to float64 rounding;
    merge in a fixed order where bytes must repeat).
    """

    n: int
    total: np.ndarray
    outer: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, block: int = 8192, weights: np.ndarray | None = None) -> Moments:
        """The moments of rows [N, D], converted to float64 a block at a time.

        Args:
            weights: [N], how often each row counts, as in a bootstrap; n is then their sum.

        Raises:
            DataError: not a table of finite numbers.
        """
        rows = np.asarray(rows)
        if rows.ndim != 2 or rows.shape[1] == 0:
            raise DataError(f"moments need rows of shape [N, D], got {rows.shape}")
        total, outer = np.zeros(rows.shape[1]), np.zeros((rows.shape[1], rows.shape[1]))
        for start in range(0, len(rows), block):
            part = rows[start : start + block].astype(np.float64)
            counted = part if weights is None else part * weights[start : start + block, None]
            total += counted.sum(0)
            outer += counted.T @ part
        if not np.isfinite(outer).all():
            raise DataError("rows hold values that are not finite; leave out the samples that could not be computed")
        return cls(len(rows) if weights is None else int(weights.sum()), total, outer)

    @classmethod
    def merge(cls, parts: Iterable[Moments]) -> Moments:
        """The sum of any number of parts, in the order given."""
        merged: Moments | None = None
        for part in parts:
            merged = part if merged is None else merged + part
        if merged is None:
            raise DataError("there are no moments to merge; give at least one shard")
        return merged

    def __add__(self, other: Moments) -> Moments:
        if self.total.shape != other.total.shape:
            raise DataError(f"moments of {len(self.total)} and of {len(other.total)} dimensions cannot be merged")
        return Moments(self.n + other.n, self.total + other.total, self.outer + other.outer)

    @property
    def mean(self) -> np.ndarray:
        """[D], float64."""
        if self.n < 1:
            raise DataError("the mean of no rows is not defined")
        return self.total / self.n

    @property
    def covariance(self) -> np.ndarray:
        """[D, D], float64, unbiased (divided by n - 1)."""
        if self.n < 2:
            raise DataError(f"a covariance needs at least two rows, got {self.n}")
        covariance = (self.outer - np.outer(self.total, self.total) / self.n) / (self.n - 1)
        return (covariance + covariance.T) / 2
