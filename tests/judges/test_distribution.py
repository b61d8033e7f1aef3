"""Precision, recall and neighbours in features where the answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics.pairwise import polynomial_kernel

from ganinv.errors import DataError
from ganinv.judges import nearest_neighbours, precision_recall
from ganinv.metrics.features import squared_mmd


def test_one_mode_of_two_is_precise_and_recalls_half() -> None:
    rng = np.random.default_rng(0)
    real = np.concatenate([rng.normal(0, 0.1, (200, 4)), rng.normal(5, 0.1, (200, 4))])
    one_mode = rng.normal(0, 0.1, (200, 4))
    found = precision_recall(real, one_mode)
    assert found.precision > 0.9
    assert 0.4 < found.recall < 0.55
    assert precision_recall(one_mode, real).precision == found.recall
    assert precision_recall(real, one_mode + 100) == (0.0, 0.0)


def test_an_image_is_not_its_own_neighbour() -> None:
    line = np.arange(5, dtype=float)[:, None]
    # With k = 1 each radius is 1: 0.5 past the end is inside, 1.5 past it is not.
    assert precision_recall(line, np.array([[4.5], [5.5]] * 2), k=1).precision == 0.5


def test_nearest_neighbours() -> None:
    found = nearest_neighbours(np.array([[0.0, 0.0], [9.0, 1.0]]), np.array([[9.0, 9.0], [3.0, 4.0], [9.0, 0.0]]))
    assert found.which.tolist() == [1, 2]
    assert found.distance.tolist() == [5.0, 1.0]


def test_features_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"of one dimension, got \(4, 2\) and \(4, 3\)"):
        precision_recall(np.zeros((4, 2)), np.zeros((4, 3)))
    with pytest.raises(DataError, match="need more rows than that, got 3 and 4"):
        precision_recall(np.zeros((3, 2)), np.zeros((4, 2)))


def test_the_kernel_distance_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(30, 8)), rng.normal(0.5, 1, size=(40, 8))

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return polynomial_kernel(x, y, degree=3, gamma=1 / 8, coef0=1)

    aa, bb = kernel(a, a), kernel(b, b)
    expected = (aa.sum() - aa.trace()) / 870 + (bb.sum() - bb.trace()) / 1560 - 2 * kernel(a, b).mean()
    assert squared_mmd(a, b) == pytest.approx(expected, rel=1e-12)
