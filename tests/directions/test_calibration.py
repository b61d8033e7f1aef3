"""What a direction does, measured by rendering, and the unit that follows from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ganinv.codes.code import Code
from ganinv.directions.direction import Direction
from ganinv.directions.measuring.calibration import CalibrationConfig, calibrate, in_score_units, read_calibration
from ganinv.directions.measuring.effects import Effects, Start, edited, measure_effects, score_codes
from ganinv.errors import ConfigError, DataError, GeneratorMismatch
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import Labeller, TableLabeller
from ganinv.labels.inputs import InputSpec
from ganinv.labels.network import NetworkLabeller
from ganinv.labels.outputs import Output
from tests.tiny import tiny_generator


class Colours(torch.nn.Module):
    """Mean red, and mean green less blue."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean((2, 3))
        return torch.stack([mean[:, 0], mean[:, 1] - mean[:, 2]], 1)


@pytest.fixture(scope="module")
def g() -> Generator:
    return tiny_generator(16)


@pytest.fixture(scope="module")
def labeller() -> Labeller:
    outputs = {"red": Output(column=0), "green": Output(column=1)}
    return NetworkLabeller(
        Colours(), name="colours", version=1, weights_sha256="", spec=InputSpec(size=16), outputs=outputs
    )


@pytest.fixture(scope="module")
def start(g: Generator) -> Start:
    z = torch.randn(12, g.z_dim, generator=torch.Generator().manual_seed(3))
    return Start.of(g, z, 0.7)


def red_direction(g: Generator, labeller: Labeller, start: Start) -> Direction:
    """The mean gradient of the red score."""
    w = start.w.clone().requires_grad_()
    labeller.score(g.synthesize(Code(w=w)))["red"].sum().backward()
    assert w.grad is not None
    vector = w.grad.sum((0, 1)).numpy()
    return Direction(
        name="red",
        vector=vector / np.linalg.norm(vector),
        space="w",
        generator_name=g.name,
        generator_fingerprint=g.fingerprint,
        method="gradient",
        unit=0.05,
    )


def world(slope: float = 0.5, noise: float = 0.0) -> Effects:
    """A linear world: the score changes by ``slope`` standard deviations per strength."""
    strengths = np.array([-3.0, -1.0, 1.0, 3.0])
    before = np.random.default_rng(0).normal(size=(200, 2))
    change = strengths[:, None, None] * np.array([slope, -0.1]) * np.array([2.0, 5.0])
    wobble = noise * np.random.default_rng(1).normal(size=(4, 200, 2))
    return Effects(strengths, ("a", "b"), before, before + change + wobble, np.array([2.0, 5.0]))


def test_the_unit_of_a_linear_response_is_the_response_over_the_slope() -> None:
    """docs/methods/editing-evaluation.md, check 2."""
    assert read_calibration(world(), "a", 1.0) == pytest.approx(2.0)
    assert read_calibration(world(), "a", 0.25) == pytest.approx(0.5)
    assert read_calibration(world(noise=0.5), "a", 1.0) == pytest.approx(2.0, rel=0.1)
    np.testing.assert_allclose(world().slope(), [0.5, -0.1])
    assert world().monotone("a") == 1.0
    assert world().monotone("b") == 0.0


def test_it_is_not_extrapolated() -> None:
    """docs/methods/editing-evaluation.md, check 7."""
    assert read_calibration(world(), "a", 1.6) is None
    assert read_calibration(world(-0.5), "a", 0.5) is None  # the score goes down: there is no strength upwards
    lame = world()
    lame.after[2:, :, 0] = lame.before[:, 0] + 0.1  # it saturates upwards, not downwards
    assert read_calibration(lame, "a", 1.0) == pytest.approx(2.0)


def test_swapping_the_sign_mirrors_the_response() -> None:
    """docs/methods/editing-evaluation.md, check 8."""
    effects = world(noise=0.1)
    mirrored = replace(effects, strengths=-effects.strengths)
    np.testing.assert_allclose(mirrored.slope(), -effects.slope())


@pytest.mark.seconds
def test_a_calibrated_step_changes_the_score_by_its_standard_deviation(
    g: Generator, labeller: Labeller, start: Start
) -> None:
    z = torch.randn(400, g.z_dim, generator=torch.Generator().manual_seed(1))
    scores = score_codes(g, labeller, Code(w=Start.of(g, z, 0.7).w))
    sigma = dict(zip(labeller.attributes, scores.std(0), strict=True))
    direction = red_direction(g, labeller, start)
    grid = (-40.0, -20.0, -10.0, -5.0, 5.0, 10.0, 20.0, 40.0)
    config = CalibrationConfig(samples=12, strengths=grid)
    calibrated = calibrate(direction, "red", g, labeller, start, sigma, config)
    report = calibrated.report["calibration"]
    assert calibrated.unit == direction.unit
    assert report["unit"] == pytest.approx(report["strength"] * direction.unit)
    assert report["score_std"] == pytest.approx(sigma["red"])
    assert report["labeller"] == "colours@1"
    assert report["unreached"]["up"] < 0.3
    steps = in_score_units(calibrated)
    change = [
        score_codes(g, labeller, edited(g, steps, start, s))[:, 0].mean()
        - score_codes(g, labeller, Code(w=start.w))[:, 0].mean()
        for s in (1.0, -1.0)
    ]
    assert (change[0] - change[1]) / 2 == pytest.approx(sigma["red"], rel=0.1)
    assert set(report["side_effects"]) == {"red", "green"}


def test_directions_of_all_spaces_are_applied(g: Generator, start: Start) -> None:
    common = {"generator_name": g.name, "generator_fingerprint": g.fingerprint, "method": "x"}
    widths = tuple((name, s.shape[1]) for name, s in zip(g.style_names, g.styles(start.w), strict=True))
    flat = np.zeros(sum(width for _, width in widths))
    flat[3] = 1
    z = edited(g, Direction(name="z", vector=np.eye(g.z_dim)[0], space="z", **common), start, 2.0)
    assert start.z is not None
    expected = g.map(start.z + 2 * torch.eye(g.z_dim)[0], truncation_psi=0.7)
    torch.testing.assert_close(z.w, expected)
    s = edited(g, Direction(name="s", vector=flat, space="s", style_layers=widths, **common), start, 2.0)
    assert s.styles is not None
    assert list(s.styles) == ["convs.0"]
    assert s.styles["convs.0"][:, 3].tolist() == [2.0] * 12
    assert torch.equal(s.w, start.w)
    w = edited(g, Direction(name="w", vector=np.eye(g.w_dim)[0], space="w", **common), start, 2.0)
    torch.testing.assert_close(w.w - start.w, (2 * torch.eye(g.w_dim)[0]).expand_as(start.w))
    with pytest.raises(ConfigError, match="give the samples' z"):
        edited(g, Direction(name="z", vector=np.eye(g.z_dim)[0], space="z", **common), Start(start.w), 1.0)


def test_what_cannot_be_measured_is_said(g: Generator, labeller: Labeller, start: Start) -> None:
    direction = red_direction(g, labeller, start)
    with pytest.raises(ConfigError, match="no standard deviation of green"):
        measure_effects(g, labeller, direction, start, [1.0], {"red": 1.0})
    table = TableLabeller({"red": np.zeros(1)}, ["a"], name="mine")
    with pytest.raises(DataError, match="mine@1 looks scores up by id"):
        measure_effects(g, table, direction, start, [1.0], {"red": 1.0})
    other = replace(direction, generator_fingerprint="b" * 64)
    with pytest.raises(GeneratorMismatch):
        measure_effects(g, labeller, other, start, [1.0], {"red": 1.0, "green": 1.0})
    effects = measure_effects(g, labeller, direction, start, [1.0], {"red": 1.0, "green": 1.0})
    with pytest.raises(ConfigError, match="no attribute 'blue' was measured; there are: red, green"):
        effects.change("blue")
    with pytest.raises(ConfigError, match="it was fitted without"):
        in_score_units(direction)


def test_an_edit_that_does_nothing_changes_nothing(g: Generator, labeller: Labeller, start: Start) -> None:
    """docs/methods/editing-evaluation.md, check 1."""
    direction = red_direction(g, labeller, start)
    effects = measure_effects(g, labeller, direction, start, [0.0], {"red": 1.0, "green": 1.0})
    assert np.abs(effects.change()).max() < 1e-6
