"""How close a set of generated images is to a set of real ones, in any feature space (Frechet distance and KID are in
``ganinv.metrics``)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ganinv.errors import DataError


class PrecisionRecall(NamedTuple):
    """``precision``: share of generated images that lie among the real ones. ``recall``: share of real images that lie among
    the generated ones."""

    precision: float
    recall: float


class Neighbours(NamedTuple):
    """For each row, the distance to its nearest reference [N], and the index of that reference [N]."""

    distance: np.ndarray
    which: np.ndarray


def precision_recall(real: np.ndarray, generated: np.ndarray, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi et al. 2019).

    An image lies among a set if it is nearer to one image of the set than that image's ``k``-th neighbour in the set. Both
    numbers depend on the number of images: compare only results for the same number of images.

    Args:
        real: features [N, D]. generated: features [M, D].

    Raises:
        DataError: shapes do not fit, or a set does not have more than ``k`` rows.
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
