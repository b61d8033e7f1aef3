"""DCI on codes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from ganinv.errors import DataError
from ganinv.metrics import DciConfig, dci


def world(n: int, dim: int = 10, noise: float = 0.3) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(n, dim))
    return factors, {f"a{i}": factors[:, i] + noise * rng.normal(size=n) for i in range(dim)}


def rotation(dim: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(1).normal(size=(dim, dim)))[0]


@pytest.mark.slow
def test_identity_and_rotation() -> None:
    """docs/methods/stylespace.md, check 4: N = 50,000, K = D = 10, tails of 2 %."""
    codes, scores = world(50_000)
    identity, rotated = dci(codes, scores), dci(codes @ rotation(10), scores)
    assert min(identity.disentanglement, identity.completeness, identity.informativeness) > 0.99
    assert rotated.disentanglement < identity.disentanglement - 0.15
    assert rotated.completeness < identity.completeness - 0.15
    assert rotated.informativeness > 0.98
    assert identity.importance.shape == (10, 10)
    assert (identity.importance.argmax(0) == np.arange(10)).all()
    np.testing.assert_allclose(identity.importance.sum(0), 1, atol=1e-6)


@pytest.mark.seconds
def test_repeats_and_weighs_dimensions_by_what_they_do() -> None:
    codes, scores = world(4000, 4)
    padded = np.column_stack([codes, np.zeros((4000, 3))])
    first, again = dci(padded, scores, DciConfig(tails=0.1)), dci(padded, scores, DciConfig(tails=0.1))
    np.testing.assert_array_equal(first.importance, again.importance)
    assert first.disentanglement > 0.97  # dimensions that do nothing have no weight in it
    assert first.importance[4:].sum() == 0


@pytest.mark.seconds
def test_lopsided_attributes_are_left_out() -> None:
    codes, scores = world(3000, 4)
    scores["always"] = scores["a0"] + 10
    found = dci(codes, scores, DciConfig(tails=0.1))
    assert found.left_out == ("always",)
    assert found.attributes == ("a0", "a1", "a2", "a3")
    with pytest.raises(DataError, match=r"at least two attributes.*got \['a0'\]; left out: always"):
        dci(codes, {"a0": scores["a0"], "always": scores["always"]})


def test_what_cannot_be_used_is_said() -> None:
    codes, scores = world(300, 3)
    with pytest.raises(DataError, match=r"'a0': tails of 1.0% of 300 samples have 3"):
        dci(codes, scores, DciConfig(tails=0.01))
    scores["a1"] = scores["a1"].copy()
    scores["a1"][0] = np.nan
    with pytest.raises(DataError, match=r"finite score of 'a1'.*1 that are not finite"):
        dci(codes, scores)
