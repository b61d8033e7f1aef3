"""How a set of generated images lies beside a set of real ones, in any feature space (Frechet distance and KID:
``ganinv.metrics``)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ganinv.errors import DataError


class PrecisionRecall(NamedTuple):
    """``precision``: share of generated images among the real ones. ``recall``: share of real images among the generated."""

    precision: float
    recall: float


class Neighbours(NamedTuple):
    """Of each row, the distance to its nearest reference [N], and which one that is [N]."""

    distance: np.ndarray
    which: np.ndarray


def precision_recall(real: np.ndarray, generated: np.ndarray, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi et al. 2019): an image is among a set when it is nearer to one of the set than
    that one's ``k``-th neighbour in the set.

    Both depend on the number of images: compare only numbers of equal numbers.

    Args:
        real: features [N, D]. generated: [M, D].

    Raises:
        DataError: shapes do not fit, or a set has not more than ``k`` rows.
    """
    _check(real, generated)
    if min(len(real), len(generated)) <= k:
        raise DataError(
            f"precision and recall with k = {k} need more rows than that, got {len(real)} and {len(generated)}"
        )
    return PrecisionRecall(_share_inside(generated, real, k), _share_inside(real, generated, k))


def nearest_neighbours(rows: np.ndarray, references: np.ndarray) -> Neighbours:
    """The nearest of ``references`` [M, D] to each of ``rows`` [N, D], Euclidean."""
    from sklearn.neighbors import NearestNeighbors  # a second that a look at faces need not spend

    _check(rows, references)
    distance, index = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(references).kneighbors(rows)
    return Neighbours(distance[:, 0], index[:, 0])


def _share_inside(rows: np.ndarray, members: np.ndarray, k: int) -> float:
    from sklearn.metrics import pairwise_distances
    from sklearn.neighbors import NearestNeighbors

    radii = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(members).kneighbors()[0][:, -1]  # itself left out
    inside = [(pairwise_distances(rows[n : n + 512], members) <= radii).any(1) for n in range(0, len(rows), 512)]
    return float(np.concatenate(inside).mean())


def _check(a: np.ndarray, b: np.ndarray) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise DataError(f"expected features [N, D] and [M, D] of one dimension, got {a.shape} and {b.shape}")
