from __future__ import annotations

import numpy as np
import pytest

from ganinv.directions.direction import UNVERIFIED, Direction
from ganinv.directions.measuring.comparing import compare_directions
from ganinv.editing import conditioned
from ganinv.errors import ConfigError, GeneratorMismatch

D = 16


def direction(name: str, vector: np.ndarray, **more: object) -> Direction:
    given: dict = {"generator_name": "g", "generator_fingerprint": "f" * 64, "method": "test"}
    space = "w" if vector.ndim == 1 else "w+"
    return Direction(name, vector, **{"space": space, **given, **more})  # type: ignore[arg-type]


def vector(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape or (D,))


def test_two_vectors() -> None:
    a, b = np.eye(D)[0], 3 * (np.eye(D)[0] * 0.6 + np.eye(D)[1] * 0.8)
    found = compare_directions(direction("a", a, unit=2.0, version=4), direction("b", b))
    assert (found.first, found.second, found.space, found.rows, found.row_cosines) == ("a@4", "b", "w", None, None)
    assert found.cosine == pytest.approx(0.6)
    assert (found.left_of_first, found.left_of_second) == (pytest.approx(0.8), pytest.approx(0.8))
    assert found.step_ratio == pytest.approx(2 / 3)
    assert compare_directions(direction("a", a), direction("a", -a)).cosine == pytest.approx(-1)
    assert compare_directions(direction("a", a), direction("a", a)).left_of_first == 0.0


def test_row_by_row_and_what_is_left_is_what_a_conditional_edit_keeps() -> None:
    a, b = direction("a", vector(0, 6, D)), direction("b", vector(1, 6, D))
    found = compare_directions(a, b)
    assert found.row_cosines is not None
    assert list(found.row_cosines) == list("012345")
    cosines = (a.vector * b.vector).sum(1) / np.linalg.norm(a.vector, axis=1) / np.linalg.norm(b.vector, axis=1)
    np.testing.assert_allclose(list(found.row_cosines.values()), cosines, atol=1e-6)
    left = conditioned(a, [b])  # keeps the norms of rows: the projection itself is their part along it
    kept = (left.vector * a.vector).sum(1) / np.linalg.norm(a.vector, axis=1)
    assert found.left_of_first == pytest.approx(np.linalg.norm(kept) / np.linalg.norm(a.vector), abs=1e-6)


def test_over_the_rows_that_both_move() -> None:
    rows = vector(0, 4, D)
    found = compare_directions(direction("a", rows, layers=(2, 6)), direction("b", vector(1), layers=(4, 10)))
    assert found.rows == (4, 6)
    assert found.row_cosines is not None
    assert list(found.row_cosines) == ["4", "5"]
    found = compare_directions(direction("a", rows[0], layers=(2, 6)), direction("b", rows[0]))
    assert (found.rows, found.row_cosines) == ((2, 6), None)
    assert found.cosine == pytest.approx(1)
    with pytest.raises(ConfigError, match=r"move no common rows \(2-5, 6-9\)"):
        compare_directions(direction("a", rows, layers=(2, 6)), direction("b", vector(1), layers=(6, 10)))


def test_in_s_layers_that_only_one_moves_count() -> None:
    layers = (("convs.0", 4), ("convs.1", 6))
    a = direction("a", vector(0, 10), space="s", style_layers=layers)
    b = direction("b", vector(1, 4), space="s", style_layers=layers[:1])
    found = compare_directions(a, b)
    flat = np.concatenate([b.vector, np.zeros(6)])
    want = a.vector @ flat / np.linalg.norm(a.vector) / np.linalg.norm(flat)
    assert found.cosine == pytest.approx(want, abs=1e-6)
    assert found.left_of_first == pytest.approx((1 - want**2) ** 0.5, abs=1e-6)
    assert found.row_cosines is not None
    assert found.row_cosines["convs.1"] == 0.0


def test_what_cannot_be_compared() -> None:
    a = direction("a", vector(0))
    with pytest.raises(GeneratorMismatch, match=r"a belongs to 'g' \(ffffffffffff\), b belongs to 'h'"):
        compare_directions(a, direction("b", vector(1), generator_name="h", generator_fingerprint="0" * 64))
    with pytest.raises(ConfigError, match="lives in 'w' and b in 'z'"):
        compare_directions(a, direction("b", vector(1), space="z"))
    with pytest.raises(ConfigError, match="16 dimensions, b 8"):
        compare_directions(a, direction("b", vector(1, 8)))
    with pytest.raises(ConfigError, match="lives in 's'"):
        compare_directions(direction("a", vector(0), space="s", style_layers=[("convs.0", D)]), a)
    stated = {"generator_fingerprint": UNVERIFIED}
    found = compare_directions(direction("a", vector(0), **stated), direction("b", vector(1), **stated))
    assert not found.verified
    with pytest.raises(GeneratorMismatch):
        compare_directions(
            direction("a", vector(0), **stated), direction("b", vector(1), generator_name="other", **stated)
        )
