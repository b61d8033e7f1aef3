from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ganinv.codes.code import Code, LowRank
from ganinv.directions.direction import UNVERIFIED, Direction
from ganinv.editing import Edit, conditioned
from ganinv.errors import ConfigError, GeneratorMismatch

PRINT, ROWS, DIM = "f" * 64, 6, 16


def direction(name: str, seed: int, **changes: object) -> Direction:
    vector = np.random.default_rng(seed).normal(size=DIM)
    given: dict = {
        "name": name,
        "vector": vector / np.linalg.norm(vector),
        "space": "w",
        "generator_name": "faces",
        "generator_fingerprint": PRINT,
        "method": "test",
    }
    return Direction(**{**given, **changes})


DIRECTIONS = {
    "smile": direction("smile", 0, unit=0.5),
    "age": direction("age", 1, layers=(0, 3)),
    "gender": direction("gender", 2),
    "pca-00": direction("pca-00", 3, mode="absolute", mean=np.ones(DIM)),
}


@pytest.fixture
def code() -> Code:
    rng = torch.Generator().manual_seed(0)
    return Code(
        w=torch.randn(3, ROWS, DIM, generator=rng),
        noise={0: torch.randn(1, 1, 4, 4, generator=rng)},
        styles={"convs.0": torch.randn(3, 8, generator=rng)},
        weights={"convs.0.weight": LowRank(torch.randn(3, 8, 2, generator=rng), torch.randn(3, 2, 72, generator=rng))},
    )


def test_combined_edits_add_in_any_order(code: Code) -> None:
    both = Edit({"smile": 2.0, "age": -1.0}).apply(code, DIRECTIONS, PRINT)
    other = Edit({"age": -1.0, "smile": 2.0}).apply(code, DIRECTIONS, PRINT)
    expected = DIRECTIONS["smile"].step(code.w, 2.0) + DIRECTIONS["age"].step(code.w, -1.0)
    torch.testing.assert_close(both.w, code.w + expected)
    torch.testing.assert_close(both.w, other.w)


def test_one_direction_equals_its_apply(code: Code) -> None:
    for name in DIRECTIONS:
        assert torch.equal(Edit({name: 1.5}).apply(code, DIRECTIONS, PRINT).w, DIRECTIONS[name].apply(code.w, 1.5))


def test_all_extras_of_the_code_are_kept(code: Code) -> None:
    edited = Edit({"smile": 2.0}).apply(code, DIRECTIONS, PRINT)
    assert edited.noise is code.noise
    assert edited.styles is code.styles
    assert edited.weights is code.weights
    assert edited is not code


def test_conditional_edits_hold_the_conditions_still(code: Code) -> None:
    edited = Edit({"smile": 2.0, "age": 1.0}, conditions=["gender", "age"]).apply(code, DIRECTIONS, PRINT)
    change = edited.w - code.w
    # Age is in the edit itself: it is held still against smile, not against itself.
    along_gender = change @ torch.tensor(DIRECTIONS["gender"].vector)
    torch.testing.assert_close(along_gender, torch.zeros(3, ROWS), atol=1e-5, rtol=0)
    smile = conditioned(DIRECTIONS["smile"], [DIRECTIONS["gender"], DIRECTIONS["age"]])
    assert abs(smile.vector @ DIRECTIONS["age"].vector) < 1e-6
    torch.testing.assert_close(change[:, 3:], smile.step(code.w, 2.0)[:, 3:], atol=1e-6, rtol=0)
    torch.testing.assert_close(change[:, 3:].norm(dim=-1), torch.ones(3, 3), atol=1e-5, rtol=0)


def test_conditioning_row_by_row() -> None:
    per_row = direction("rows", 5, vector=np.random.default_rng(5).normal(size=(ROWS, DIM)), space="w+")
    projected = conditioned(per_row, [DIRECTIONS["gender"]])
    np.testing.assert_allclose(projected.vector @ DIRECTIONS["gender"].vector, np.zeros(ROWS), atol=1e-6)
    one = conditioned(DIRECTIONS["smile"], [per_row])
    np.testing.assert_allclose((one.vector * per_row.vector).sum(1), np.zeros(ROWS), atol=1e-6)
    with pytest.raises(ConfigError, match="one number of dimensions and of rows"):
        conditioned(direction("few", 6, vector=np.ones((2, DIM))), [per_row])


def test_conditions_hold_only_in_the_rows_that_they_have() -> None:
    rows = np.random.default_rng(5).normal(size=(3, DIM))
    held = direction("held", 5, vector=rows, space="w+", layers=(2, 5))
    moving = direction("moving", 6, vector=3 * np.eye(DIM)[0], layers=(1, 4))
    left = conditioned(moving, [held])
    np.testing.assert_array_equal(left.vector[0], moving.vector)  # row 1 has no condition
    for row in (2, 3):
        assert abs(left.vector[row - 1] @ held.vector[row - 2]) < 1e-5
    np.testing.assert_allclose(np.linalg.norm(left.vector, axis=1), 3, rtol=1e-6)  # a step is as long as before
    with pytest.raises(ConfigError, match=r"state its rows, as in all\(0-7\)"):
        conditioned(direction("all", 6), [held])


def test_conditioning_in_z_and_s() -> None:
    z = conditioned(direction("a", 0, space="z"), [direction("b", 1, space="z")])
    assert abs(z.vector @ direction("b", 1).vector) < 1e-6
    layers = [("convs.0", 4), ("convs.1", 4)]
    a = direction("a", 0, vector=np.ones(8), space="s", style_layers=layers)
    b = direction("b", 1, vector=np.arange(1, 7), space="s", style_layers=[("convs.1", 4), ("torgbs.1", 2)])
    left = conditioned(a, [b])
    assert left.style_layers == (*((n, c) for n, c in layers), ("torgbs.1", 2))
    assert abs(left.vector[4:] @ b.vector) < 1e-5
    assert np.linalg.norm(left.vector) == pytest.approx(np.linalg.norm(a.vector))
    with pytest.raises(ConfigError, match="'smile' lives in 'w' and cannot be made orthogonal to 'a' in 'z'"):
        conditioned(DIRECTIONS["smile"], [direction("a", 0, space="z")])
    with pytest.raises(ConfigError, match="one number of dimensions"):
        conditioned(a, [direction("b", 1, vector=np.ones(5), space="s", style_layers=[("convs.0", 5)])])


def test_rows_and_versions_in_the_notation(code: Code) -> None:
    edited = Edit.parse("smile(2-3)=2, E(v0,5)=1").apply(code, DIRECTIONS, PRINT)
    change = (edited.w - code.w).abs().sum((0, 2))
    assert change.nonzero().flatten().tolist() == [2, 3, 5]
    expected = DIRECTIONS["smile"].step(code.w, 2.0)[:, 2:4]
    torch.testing.assert_close(edited.w[:, 2:4] - code.w[:, 2:4], expected, atol=1e-6, rtol=1e-5)
    versions = {"smile@1": direction("smile", 0, version=1), "smile": direction("smile", 7, version=2)}
    for reference, seed in (("smile@1", 0), ("smile@2", 7), ("smile", 7)):
        want = direction("smile", seed).apply(code.w, 1.0)
        assert torch.equal(Edit({reference: 1.0}).apply(code, versions, PRINT).w, want)
    with pytest.raises(ConfigError, match="no direction 'smile@3'; there are: smile, smile@1"):
        Edit({"smile@3": 1.0}).apply(code, versions, PRINT)
    with pytest.raises(ConfigError, match="to move rows 2 to 8 of w, and this code has rows 0 to 5"):
        Edit({"smile(2-8)": 1.0}).apply(code, DIRECTIONS, PRINT)
    with pytest.raises(ConfigError, match="does not name a direction"):
        Edit({"smile(": 1.0})


@pytest.mark.parametrize(
    "strength", [float("nan"), float("inf"), "2", None, [1.0, float("nan")], torch.tensor(-torch.inf)]
)
def test_a_strength_that_is_no_finite_number(strength: Any) -> None:
    with pytest.raises(ConfigError, match="the strength of smile must be a finite number"):
        Edit({"smile": strength})


def test_a_conditional_edit_in_some_rows(code: Code) -> None:
    edited = Edit({"smile(0-2)": 2.0}, conditions=["gender"]).apply(code, DIRECTIONS, PRINT)
    change = edited.w - code.w
    torch.testing.assert_close(
        change @ torch.tensor(DIRECTIONS["gender"].vector), torch.zeros(3, ROWS), atol=1e-5, rtol=0
    )
    assert change[:, :3].norm() > 1
    assert not change[:, 3:].any()


def test_a_direction_of_a_stated_generator_needs_trust(code: Code) -> None:
    stated = {"smile": direction("smile", 0, generator_fingerprint=UNVERIFIED, generator_resolution=16)}
    with pytest.raises(GeneratorMismatch, match="name it in `trust`"):
        Edit({"smile": 1.0}).apply(code, stated, PRINT)
    edited = Edit({"smile": 1.0}, trust=["smile"]).apply(code, stated, PRINT)
    assert torch.equal(edited.w, direction("smile", 0).apply(code.w, 1.0))
    other = {"smile": direction("smile", 0, generator_fingerprint=UNVERIFIED, generator_resolution=32)}
    with pytest.raises(ConfigError, match="whose W\\+ has 8 rows; this code has 6"):
        Edit({"smile": 1.0}, trust=["smile"]).apply(code, other, PRINT)
    with pytest.raises(ConfigError, match="trust must be a list"):
        Edit({"smile": 1.0}, trust="smile")


@pytest.mark.parametrize("strengths", [torch.tensor([1.0, 0.0, -1.0]), [1.0, 0.0, -1.0]])
def test_strength_per_sample(code: Code, strengths: object) -> None:
    edited = Edit({"smile": strengths}).apply(code, DIRECTIONS, PRINT)  # type: ignore[dict-item]
    assert torch.equal(edited.w[1], code.w[1])
    torch.testing.assert_close(edited.w[0] - code.w[0], code.w[2] - edited.w[2])


class Lookup:
    def get(self, name: str, *, generator: str) -> Direction:
        assert generator == PRINT
        return DIRECTIONS[name]


class Store:
    directions = Lookup()


def test_directions_may_come_from_a_lookup_or_a_store(code: Code) -> None:
    expected = Edit({"smile": 1.0}).apply(code, DIRECTIONS, PRINT).w
    assert torch.equal(Edit({"smile": 1.0}).apply(code, Lookup(), PRINT).w, expected)
    assert torch.equal(Edit({"smile": 1.0}).apply(code, Store(), PRINT).w, expected)


def test_directions_of_another_generator_are_refused(code: Code) -> None:
    with pytest.raises(GeneratorMismatch, match="'smile'"):
        Edit({"smile": 1.0}).apply(code, DIRECTIONS, "0" * 64)
    foreign = {**DIRECTIONS, "gender": direction("gender", 2, generator_fingerprint="0" * 64)}
    with pytest.raises(GeneratorMismatch, match="'gender'"):
        Edit({"smile": 1.0}, conditions=["gender"]).apply(code, foreign, PRINT)


def test_mistakes_are_explained(code: Code) -> None:
    with pytest.raises(ConfigError, match="no direction 'smle'; there are: age, gender"):
        Edit({"smle": 1.0}).apply(code, DIRECTIONS, PRINT)
    with pytest.raises(ConfigError, match="at least one direction"):
        Edit({})
    with pytest.raises(ConfigError, match="must be a list"):
        Edit({"smile": 1.0}, conditions="gender")


def test_without_a_fingerprint_all_directions_must_be_of_one_generator() -> None:
    def made(name: str, fingerprint: str) -> Direction:
        vector = np.eye(4, dtype=np.float32)[0]
        return Direction(name, vector, "w", generator_name="g", generator_fingerprint=fingerprint, method="test")

    code = Code(w=torch.zeros(1, 2, 4))
    same = {"a": made("a", "f" * 64), "b": made("b", "f" * 64)}
    assert float(Edit({"a": 1.0, "b": 1.0}).apply(code, same).w[0, 0, 0]) == 2.0
    with pytest.raises(GeneratorMismatch):
        Edit({"a": 1.0, "b": 1.0}).apply(code, {**same, "b": made("b", "0" * 64)})
