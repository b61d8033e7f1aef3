"""The distance of edited halves, of features that are known."""

from __future__ import annotations

import numpy as np
import pytest

from ganinv.errors import DataError
from ganinv.leaderboard.halves import halves_distance, lower_half, random_halves
from ganinv.leaderboard.halves_table import estimates, worth


def halves(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Of an edit that goes all the way at its second strength, and beyond at its third: [4, 40, 6], and the real half."""
    rng = np.random.default_rng(seed)
    real, less = rng.normal(1, 1, (40, 6)), rng.normal(0, 1, (40, 6))
    return np.stack([less + far for far in (0, 0.5, 1.0, 3.0)]), real


def test_the_best_strength_is_found_and_what_the_edit_gains() -> None:
    found = halves_distance(*halves(), strengths=(1.0, 2.0, 3.0), asked=0.5)
    assert found.strength == 2.0
    assert found.best.low < 0 < found.best.high  # of one law: 0 within its interval
    assert found.unedited.low > 0
    assert found.gain.low > 0
    assert found.gain.mean == pytest.approx(found.unedited.mean - found.best.mean)
    assert found.best.mean < found.asked.mean < found.unedited.mean
    assert np.isnan(halves_distance(*halves(), strengths=(1.0, 2.0, 3.0)).asked.mean)
    assert random_halves(np.concatenate([halves()[0][0], halves()[1]])) < found.unedited.mean
    scaled = halves_distance(*(10 * each for each in halves()), strengths=(1.0, 2.0, 3.0), asked=0.5)
    assert scaled.unedited.mean == pytest.approx(found.unedited.mean)  # whatever the size of the features


def test_who_does_not_edit_gains_nothing_and_the_page_says_so() -> None:
    edited, real = halves()
    still = np.stack([edited[0]] * 4)
    copies, photos = (halves_distance(still, real, (1.0, 2.0, 3.0)) for _ in range(2))
    assert copies.gain.mean == copies.gain.high == 0
    edits = {f"m{n}": halves_distance(*halves(n), strengths=(1.0, 2.0, 3.0)) for n in range(1, 4)}
    said = worth({"photos": photos, "copies": copies, "control-copy": copies, **edits}, "control-", 3.0)
    assert "over 4 methods" in said[1]
    assert said[1].endswith("beyond its interval, by 3 (m1, m2, m3).")
    assert "95 % have less than 3.0" in said[0]
    assert list(estimates(photos, "photos")) == ["halves_unedited"]


def test_halves_are_of_what_was_measured() -> None:
    measure = np.array([3.0, np.nan, 1.0, 2.0, 4.0, 5.0])
    assert lower_half(measure).tolist() == [False, False, True, True, False, False]
    edited, real = halves()
    with pytest.raises(DataError, match=r"expected features \[3, N, D\]"):
        halves_distance(edited, real, (1.0, 2.0))
    with pytest.raises(DataError, match="too few"):
        halves_distance(edited, real[:3], (1.0, 2.0, 3.0))
