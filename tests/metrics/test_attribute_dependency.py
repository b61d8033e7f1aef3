"""Attribute Dependency in a linear world."""

from __future__ import annotations

import numpy as np
import pytest

from ganinv.errors import ConfigError, DataError
from ganinv.metrics import attribute_dependency

NAMES = ("smile", "age", "hat", "grin")
SIGMA = np.array([2.0, 1.0, 4.0, 2.0])
SLOPE = np.array([1.0, -0.2, 0.4, 0.9])


def world(strengths: list[float]) -> tuple[np.ndarray, np.ndarray]:
    before = np.random.default_rng(0).normal(size=(50, 4))
    return before, before + np.array(strengths)[:, None, None] * SLOPE * SIGMA


def test_a_linear_world_has_the_analytic_ratio() -> None:
    """docs/methods/editing-evaluation.md, check 2."""
    before, after = world([0.5, 1.0, 2.0])
    curve = attribute_dependency(before, after, SIGMA, NAMES, "smile", exclude=["grin"])
    np.testing.assert_allclose(curve.change, [0.5, 1.0, 2.0])
    np.testing.assert_allclose(curve.mean_ad, np.array([0.5, 1, 2]) * 0.3)
    np.testing.assert_allclose(curve.max_ad, np.array([0.5, 1, 2]) * 0.4)
    assert curve.others == ("age", "hat")
    assert curve.excluded == ("grin",)
    assert curve.at(1.5) == pytest.approx((0.45, 0.6))
    assert curve.at(0.25) == pytest.approx((0.075, 0.1))
    assert attribute_dependency(before, after, SIGMA, NAMES, "smile").at(1.0)[1] == pytest.approx(0.9)


def test_the_sign_of_the_edit_does_not_matter() -> None:
    (before, up), (_, down) = world([1.0, 2.0]), world([-1.0, -2.0])
    curves = [attribute_dependency(before, after, SIGMA, NAMES, "age") for after in (up, down)]
    np.testing.assert_allclose(curves[0].mean_ad, curves[1].mean_ad)


def test_nothing_is_extrapolated_and_no_edit_has_no_dependency() -> None:
    """docs/methods/editing-evaluation.md, check 1."""
    before, after = world([0.5])
    assert np.isnan(attribute_dependency(before, after, SIGMA, NAMES, "smile").at(1.0)).all()
    still = attribute_dependency(before, before[None], SIGMA, NAMES, "smile")
    assert still.change.tolist() == [0.0]
    assert np.isnan(still.at(1.0)).all()


def test_what_cannot_be_used_is_said() -> None:
    before, after = world([1.0])
    with pytest.raises(ConfigError, match="no score of beard; there are: smile, age, hat, grin"):
        attribute_dependency(before, after, SIGMA, NAMES, "beard")
    with pytest.raises(ConfigError, match="no other attributes"):
        attribute_dependency(before, after, SIGMA, NAMES, "smile", exclude=NAMES[1:])
    with pytest.raises(DataError, match="score of hat never varies"):
        attribute_dependency(before, after, SIGMA * [1, 1, 0, 1], NAMES, "smile")
    with pytest.raises(DataError, match=r"\[S, N, K\]"):
        attribute_dependency(before, after[0], SIGMA, NAMES, "smile")
