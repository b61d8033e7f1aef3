"""Distances between two sets of feature vectors: Frechet distance and kernel distance (KID).

Libraries that have both compute features of their own network with them and need all features at once. Here features are any
that a caller has, and Frechet distance takes moments that were merged from shards; the kernel is scikit-learn's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ganinv.errors import DataError
from ganinv.metrics.moments import Moments


class KernelDistance(NamedTuple):
    """Mean and standard deviation of the estimate over subsets."""

    mean: float
    std: float


def kid(
    features_a: np.ndarray, features_b: np.ndarray, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> KernelDistance:
    """Kernel distance (Binkowski et al. 2018): unbiased squared MMD, over random subsets.

    The kernel is (x . y / D + 1)^3. The distance is 0 on average for two samples of one law, at any sample size, and
    may be negative.

    Args:
        features_a, features_b: [N, D] and [M, D]. subset_size: rows per subset, at most N and M.

    Raises:
        DataError: shapes do not fit, or fewer than two rows.
    """
    a, b = np.asarray(features_a, dtype=np.float64), np.asarray(features_b, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2 or subsets < 1:
        raise DataError(f"kid compares features [N, D] and [M, D] with N, M of at least 2, got {a.shape} and {b.shape}")
    size = min(subset_size, len(a), len(b))
    rng = np.random.default_rng(seed)
    values = [
        squared_mmd(a[rng.choice(len(a), size, replace=False)], b[rng.choice(len(b), size, replace=False)])
        for _ in range(subsets)
    ]
    return KernelDistance(float(np.mean(values)), float(np.std(values)))


def squared_mmd(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy under the cubic kernel, of a [N, D] and b [M, D]."""
    return mmd_of_kernels(*cubic_kernels(a, b))


def cubic_kernels(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The cubic kernel within a [N, D], within b [M, D], and between them: [N, N], [M, M], [N, M]."""
    from sklearn.metrics.pairwise import polynomial_kernel  # a second that every worker of every step would spend

    aa, bb, ab = (polynomial_kernel(x, y, degree=3, gamma=1 / a.shape[1], coef0=1) for x, y in ((a, a), (b, b), (a, b)))
    return aa, bb, ab


def mmd_of_kernels(aa: np.ndarray, bb: np.ndarray, ab: np.ndarray) -> float:
    """``squared_mmd`` of kernels that are known, or of some of their rows and columns."""
    n, m = ab.shape
    # An element's similarity with itself is what makes the plain mean biased.
    within_a = (aa.sum() - np.trace(aa)) / (n * (n - 1))
    within_b = (bb.sum() - np.trace(bb)) / (m * (m - 1))
    return float(within_a + within_b - 2 * ab.mean())


def frechet(features_a: np.ndarray | Moments, features_b: np.ndarray | Moments) -> float:
    """Frechet distance of two Gaussians (Heusel et al. 2017): |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).

    Biased at small N: compare only numbers of equal N. A full-rank covariance needs more than D rows.

    Args:
        features_a, features_b: features [N, D], or their ``Moments`` merged from shards.
    """
    a = features_a if isinstance(features_a, Moments) else Moments.of(features_a)
    b = features_b if isinstance(features_b, Moments) else Moments.of(features_b)
    if a.total.shape != b.total.shape:
        raise DataError(f"frechet compares features of one dimension, got {len(a.total)} and {len(b.total)}")
    # The eigenvalues of S1 S2 are those of the symmetric S1^(1/2) S2 S1^(1/2): no complex square root is needed.
    root = _root(a.covariance)
    cross = np.sqrt(np.linalg.eigvalsh(root @ b.covariance @ root).clip(min=0)).sum()
    difference = a.mean - b.mean
    return float(difference @ difference + np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross)


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
