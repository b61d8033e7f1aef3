from __future__ import annotations

import numpy as np
import pytest
import torch

from ganinv.code import Code, LowRank
from ganinv.directions import Direction
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
