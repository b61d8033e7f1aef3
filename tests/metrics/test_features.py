from __future__ import annotations

import numpy as np
import pytest

from ganinv.errors import DataError
from ganinv.metrics import Moments, frechet, kid
from ganinv.metrics.features import squared_mmd


def test_equal_sets() -> None:
    """docs/methods/metrics.md, check 1."""
    x = np.random.default_rng(0).normal(size=(500, 16))
    assert abs(frechet(x, x)) < 1e-6
    assert abs(kid(x, x, subsets=50, subset_size=100).mean) < 0.05


def test_frechet_distance_of_gaussians_with_exact_moments() -> None:
    """docs/methods/metrics.md, check 3."""
    rng = np.random.default_rng(1)
    mean, a, b = rng.normal(size=8), rng.uniform(0.5, 4, 8), rng.uniform(0.5, 4, 8)
    assert frechet(exact(mean, np.ones(8)), exact(np.zeros(8), np.ones(8))) == pytest.approx(mean @ mean, rel=1e-9)
    expected = ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet(exact(mean, a), exact(mean, b)) == pytest.approx(expected, rel=1e-9)


def exact(mean: np.ndarray, variance: np.ndarray) -> Moments:
    n = 1000
    return Moments(n, n * mean, (n - 1) * np.diag(variance) + n * np.outer(mean, mean))


def test_frechet_equals_the_textbook_formula() -> None:
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(300, 12)) @ rng.normal(size=(12, 12)), rng.normal(size=(200, 12)) + 1
    ca, cb = np.cov(a.T), np.cov(b.T)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb - 2 * sqrtm(ca @ cb).real)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-8)


def test_frechet_of_fewer_rows_than_dimensions_is_finite() -> None:
    rng = np.random.default_rng(3)
    assert np.isfinite(frechet(rng.normal(size=(10, 40)), rng.normal(size=(12, 40))))


def test_merged_shards_equal_a_single_pass() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(1000, 20)).astype(np.float32) + 3, rng.normal(size=(700, 20))
    merged = Moments.merge(Moments.of(part) for part in np.array_split(a, 7))
    assert frechet(merged, Moments.of(b)) == pytest.approx(frechet(a, b), rel=1e-8)
    np.testing.assert_allclose(merged.covariance, np.cov(a.T.astype(np.float64)), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(merged.mean, a.mean(0, dtype=np.float64), rtol=1e-12)


def test_cubic_kernel_equals_brute_force_loops() -> None:
    """docs/methods/metrics.md, check 4."""
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(50, 7)), rng.normal(size=(40, 7)) + 0.3
    kernel = lambda x, y: (sum(p * q for p, q in zip(x, y, strict=True)) / 7 + 1) ** 3  # noqa: E731
    aa = [kernel(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j]
    bb = [kernel(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j]
    ab = [kernel(x, y) for x in a for y in b]
    assert squared_mmd(a, b) == pytest.approx(np.mean(aa) + np.mean(bb) - 2 * np.mean(ab), rel=1e-10)


@pytest.mark.seconds
def test_kernel_distance_is_unbiased() -> None:
    """docs/methods/metrics.md, check 4: zero on average for two samples of one law, also at a small size; else positive."""
    rng = np.random.default_rng(6)
    values = np.array([squared_mmd(rng.normal(size=(40, 6)), rng.normal(size=(30, 6))) for _ in range(400)])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    assert kid(rng.normal(size=(300, 6)), rng.normal(size=(300, 6)) + 0.5, subset_size=200).mean > 0.1


def test_kid_repeats_with_its_seed() -> None:
    x = np.random.default_rng(7).normal(size=(200, 4))
    assert kid(x, x[::-1] * 1.1, subsets=5, subset_size=50) == kid(x, x[::-1] * 1.1, subsets=5, subset_size=50)
    assert kid(x, x * 1.1, subsets=5, subset_size=50) != kid(x, x * 1.1, subsets=5, subset_size=50, seed=1)


def test_features_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(DataError, match=r"\[N, D\] and \[M, D\]"):
        kid(np.ones((5, 3)), np.ones((5, 4)))
    with pytest.raises(DataError, match="one dimension, got 3 and 4"):
        frechet(np.ones((5, 3)), np.ones((5, 4)))
    with pytest.raises(DataError, match="at least two rows, got 1"):
        frechet(np.ones((1, 3)), np.ones((5, 3)))
    with pytest.raises(DataError, match="cannot be merged"):
        Moments.of(np.ones((5, 3))) + Moments.of(np.ones((5, 4)))
    with pytest.raises(DataError, match="at least one shard"):
        Moments.merge([])
