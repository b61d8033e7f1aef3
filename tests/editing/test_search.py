"""The search for a strength, on responses that are known in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ganinv.editing.search import SearchResult, StrengthSearch, find


def run(
    response: Callable[[np.ndarray], np.ndarray], aim: list[float], guess: float = 1.0, **cfg: float
) -> tuple[SearchResult, int]:
    """The result, and how often the slowest lane was evaluated."""
    count = np.zeros(len(aim), int)

    def evaluate(index: np.ndarray, strengths: np.ndarray) -> np.ndarray:
        count[index] += 1
        return response(strengths)

    at_zero = response(np.zeros(len(aim)))
    return find(evaluate, at_zero, np.array(aim), np.full(len(aim), guess), StrengthSearch(**cfg)), int(count.max())


def test_a_linear_response_is_the_change_over_the_slope() -> None:
    """docs/methods/editing-evaluation.md, check 2: P3 returns r* / slope exactly."""
    aim = [1.0, -1.0, 0.25, -3.9, 0.0]
    found, evaluations = run(lambda a: 0.4 * a, aim)
    assert found.outcome == ("reached",) * 5
    np.testing.assert_allclose(found.strength, np.array(aim) / 0.4, atol=1e-9)
    assert evaluations <= 6
    again, evaluations = run(lambda a: 0.4 * a, [1.0], guess=2.5)  # a good guess is all that it takes
    assert again.strength[0] == 2.5
    assert evaluations == 1


@pytest.mark.parametrize(
    "response",
    [
        lambda a: 1.9 * np.tanh(0.3 * a),
        lambda a: 0.02 * a**3,
        lambda a: np.sign(a) * np.sqrt(np.abs(a)) * 0.6,
        lambda a: 1 / (1 + np.exp(-3 * (a - 2))) + 1.0 * (a > 0) * (1 - np.exp(-a)),
    ],
    ids=["saturating", "slow at first", "fast at first", "a step"],
)
def test_curved_responses_are_reached_within_the_renderings(response: Callable[[np.ndarray], np.ndarray]) -> None:
    found, evaluations = run(response, [1.5, 0.8], tolerance=0.01)
    assert found.outcome == ("reached", "reached")
    np.testing.assert_allclose(response(found.strength), [1.5, 0.8], rtol=0.01)
    np.testing.assert_allclose(found.response, response(found.strength))
    assert evaluations <= 12


def test_the_strength_nearest_to_zero_is_taken() -> None:
    found, _ = run(lambda a: 2 * np.sin(a), [1.0])
    assert found.strength[0] == pytest.approx(np.pi / 6, abs=0.02)


def test_what_cannot_be_reached_is_said_and_nothing_is_extrapolated() -> None:
    found, _ = run(lambda a: np.tanh(a), [1.5, 0.5, -2.0], most=4.0)
    assert found.outcome == ("out_of_reach", "reached", "out_of_reach")
    np.testing.assert_allclose(found.strength[[0, 2]], [4.0, -4.0])  # the nearest that there is
    assert abs(found.response[0]) < 1
    falling, _ = run(lambda a: -a, [1.0])  # the other way is another edit
    assert falling.outcome == ("out_of_reach",)
    assert falling.strength[0] == 0


def test_a_jump_does_not_converge() -> None:
    found, evaluations = run(lambda a: (a > 2.3).astype(float), [0.5], renders=9)
    assert found.outcome == ("not_converged",)
    assert evaluations == 9
    few, _ = run(lambda a: 0.4 * a, [3.9], renders=2, guess=0.1)  # not enough to look as far as the bound
    assert few.outcome == ("not_converged",)


def test_missing_scores() -> None:
    found, _ = run(lambda a: np.where(np.abs(a) > 3, np.nan, 0.4 * a), [1.0, 2.0])
    assert found.outcome == ("reached", "out_of_reach")
    nothing, evaluations = run(lambda a: np.full_like(a, np.nan), [1.0])
    assert nothing.outcome == ("no_score",)
    assert (nothing.strength[0], evaluations) == (0.0, 0)


def test_a_search_from_a_response_that_is_not_zero() -> None:
    """The other terms of an edit change the score already: the strength may be of either sign, or 0."""
    found, _ = run(lambda a: 0.5 * a + 0.7, [1.0, 0.2, 0.7], tolerance=0.001)
    np.testing.assert_allclose(found.strength, [0.6, -1.0, 0.0], atol=0.005)
