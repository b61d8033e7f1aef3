"""Calibrated strength on a real generator: what was asked for is what the rendered images score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ganinv.codes.code import Code, LowRank
from ganinv.directions.direction import Direction
from ganinv.editing import Edit, Response, find_strengths, parse_edit, parse_strength
from ganinv.errors import ConfigError
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import Labeller, TableLabeller, open_labeller


@pytest.fixture(scope="module")
def g() -> Generator:
    return open_generator("portraits-64")


@pytest.fixture(scope="module")
def labeller() -> Labeller:
    return open_labeller("portraits-64")


@pytest.fixture(scope="module")
def directions(g: Generator, labeller: Labeller) -> dict[str, Direction]:
    """The mean gradient of the score of smile, as a calibrated direction; yaw, uncalibrated; and one that does nothing."""
    made = {}
    for attribute in ("smile", "yaw"):
        w = g.map(torch.randn(16, g.z_dim, generator=torch.Generator().manual_seed(3)), truncation_psi=0.7)
        w = w.clone().requires_grad_()
        labeller.score(g.synthesize(Code(w=w)))[attribute].sum().backward()
        assert w.grad is not None
        vector = w.grad.sum((0, 1)).numpy()
        made[attribute] = vector / np.linalg.norm(vector)
    calibration = {"attribute": "smile", "score_std": 2.0, "labeller": labeller.identity, "response_per_step": 1.0}
    return {
        "smile": _direction(g, "smile", made["smile"], report={"calibration": {**calibration, "strength": 2.0}}),
        "yaw": _direction(g, "yaw", made["yaw"]),
        "still": _direction(
            g, "still", made["smile"], unit=1e-9, report={"calibration": {**calibration, "strength": None}}
        ),
    }


def _direction(g: Generator, name: str, vector: np.ndarray, **more: Any) -> Direction:
    given = {"generator_name": g.name, "generator_fingerprint": g.fingerprint, "method": "test"}
    return Direction(name, vector, "w", **given, **more)


@pytest.fixture(scope="module")
def code(g: Generator) -> Code:
    """Five inversions, each with tuned weights of its own."""
    r = torch.Generator().manual_seed(0)
    shape = g.synthesis.get_parameter("convs.1.weight").shape
    tuned = LowRank(torch.randn(5, shape[0], 1, generator=r), 0.1 * torch.randn(5, 1, shape[1:].numel(), generator=r))
    return Code(w=g.map(torch.randn(5, g.z_dim, generator=r), truncation_psi=0.7), weights={"convs.1.weight": tuned})


def score(g: Generator, labeller: Labeller, code: Code, attribute: str) -> torch.Tensor:
    return labeller(g.render(code))[attribute]


@pytest.mark.seconds
def test_an_edit_changes_the_score_by_what_it_states(
    g: Generator, labeller: Labeller, directions: dict[str, Direction], code: Code
) -> None:
    cases = {
        "smile=-0.5sd": ("smile", -1.0),
        "smile=-1score": ("smile", -1.0),
        "yaw=0.2score": ("yaw", 0.2),
        "smile=-0.3score:smile": ("smile", -0.3),
    }
    strengths = []
    for text, (attribute, change) in cases.items():
        edit = Edit.parse(text)
        found = find_strengths(edit, code, directions, g, labeller)
        after = score(g, labeller, found.edit.apply(code, directions, generator=g), attribute)
        assert (found.attribute, found.outcome) == (attribute, ("reached",) * 5), text
        got = (after - score(g, labeller, code, attribute)).numpy()
        np.testing.assert_allclose(got, change, rtol=0.021)
        (stated,) = edit.strengths.values()
        assert isinstance(stated, Response)
        np.testing.assert_allclose(found.response.numpy() * change / stated.change, got, atol=1e-3)  # type: ignore[operator]
        strengths.append(found.strength)
    torch.testing.assert_close(strengths[0], strengths[1], rtol=0.05, atol=0)  # the same change in another unit
    assert len(set(strengths[0].tolist())) == 5, "every image has a strength of its own"


@pytest.mark.seconds
def test_other_terms_hold_and_the_whole_edit_counts(
    g: Generator, labeller: Labeller, directions: dict[str, Direction], code: Code
) -> None:
    edit = Edit({"yaw": 1.0, "smile": Response(-0.8, "score")})
    found = find_strengths(edit, code, directions, g, labeller)
    assert found.edit.strengths["yaw"] == 1.0
    assert found.outcome == ("reached",) * 5
    after = score(g, labeller, found.edit.apply(code, directions, generator=g), "smile")
    np.testing.assert_allclose((after - score(g, labeller, code, "smile")).numpy(), -0.8, rtol=0.021)
    alone = find_strengths(Edit({"smile": Response(-0.8, "score")}), code, directions, g, labeller)
    assert not torch.allclose(found.strength, alone.strength, rtol=0.05)


@pytest.mark.seconds
def test_an_image_does_not_depend_on_the_others(
    g: Generator, labeller: Labeller, directions: dict[str, Direction], code: Code
) -> None:
    change = torch.tensor([0.2, -0.2, 0.5, 0.1, -0.4])
    together = find_strengths(Edit({"smile": Response(change)}), code, directions, g, labeller)
    for k in (1, 3):
        alone = find_strengths(Edit({"smile": Response(float(change[k]))}), code[k], directions, g, labeller)
        assert alone.outcome[0] == together.outcome[k]
        torch.testing.assert_close(alone.strength[0], together.strength[k], rtol=1e-4, atol=1e-5)


@pytest.mark.seconds
def test_what_is_out_of_reach_is_said(
    g: Generator, labeller: Labeller, directions: dict[str, Direction], code: Code
) -> None:
    found = find_strengths(Edit({"still": Response(1.0)}), code, directions, g, labeller)
    assert found.outcome == ("out_of_reach",) * 5
    assert found.response.abs().max() < 0.01


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"smile": 1.0}, "no strength of this edit is stated as the change of a score"),
        (
            {"smile": Response(1.0, attribute="hair")},
            "follows the score of 'hair', which labeller portraits-64@1 does not",
        ),
        ({"yaw": Response(1.0)}, "direction 'yaw' was not calibrated by labeller portraits-64@1 for it.*yaw=0.5score"),
    ],
)
def test_mistakes_are_explained(
    g: Generator, labeller: Labeller, directions: dict[str, Direction], code: Code, edit: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        find_strengths(Edit(edit), code, directions, g, labeller)


@pytest.mark.seconds
def test_more_mistakes(g: Generator, labeller: Labeller, directions: dict[str, Direction], code: Code) -> None:
    with pytest.raises(ConfigError, match=r"smile=1sd is stated as the change of a score: find it with"):
        Edit.parse("smile=1sd").apply(code, directions, generator=g)
    with pytest.raises(
        ConfigError, match="one strength of an edit can be stated as a change of a score, got 2: smile, yaw"
    ):
        Edit.parse("smile=1sd,yaw=1sd")
    table = TableLabeller({"smile": np.ones(1, np.float32)}, ["a"], name="mine")
    with pytest.raises(ConfigError, match="looks scores up by id"):
        find_strengths(Edit.parse("smile=1sd"), code, directions, g, table)
    assert (
        find_strengths(Edit.parse("yaw=0.1sd"), code[0], directions, g, labeller, sigma={"yaw": 5.0}).attribute == "yaw"
    )


def test_how_a_change_is_written() -> None:
    assert parse_edit("smile=1sd, yaw = -0.5 score, E(v1,0-3)=+2sd:smile, age=2") == {
        "smile": Response(1.0, "sd"),
        "yaw": Response(-0.5, "score"),
        "pca-01(0-3)": Response(2.0, "sd", "smile"),
        "age": 2.0,
    }
    assert [str(Response(1.5)), str(Response(-10.0, "score", "yaw"))] == ["1.5sd", "-10score:yaw"]
    assert parse_strength(str(Response(0.25, "sd", "smile"))) == Response(0.25, "sd", "smile")
    for text in ("sd", "1 std", "1sd:", "nansd", "1sd:smile:age", "--1sd"):
        assert parse_strength(text) is None, text
