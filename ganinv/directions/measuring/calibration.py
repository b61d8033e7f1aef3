"""The calibrated unit: one step changes the attribute's score by one standard deviation, as measured by rendering.

Nominal steps of two directions cannot be compared: a distance in W says nothing of what it changes (ChunkyGAN's idea of a
classifier's response as the measure of strength). The response to a grid of strengths is made monotone and inverted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field

from ganinv.config import StrictModel
from ganinv.directions.direction import Direction
from ganinv.directions.measuring.effects import Effects, Start, measure_effects
from ganinv.errors import ConfigError
from ganinv.generators.stylegan2 import Generator
from ganinv.labels.base import Labeller


class CalibrationConfig(StrictModel):
    """How a direction's response is measured."""

    samples: int = Field(default=48, ge=0)
    """How many samples are edited and rendered; 0 leaves directions uncalibrated."""
    strengths: tuple[float, ...] = (-3.0, -2.0, -1.0, 1.0, 2.0, 3.0)
    """In units of the direction."""
    response: float = Field(default=1.0, gt=0)
    """The change of one calibrated step, in standard deviations of the score."""


def calibrate(
    direction: Direction,
    attribute: str,
    generator: Generator,
    labeller: Labeller,
    start: Start,
    sigma: Mapping[str, float],
    config: CalibrationConfig | None = None,
    before: np.ndarray | None = None,
) -> Direction:
    """The direction with ``report["calibration"]``; its own unit stays what it was (see ``in_score_units``).

    Args:
        attribute: whose score counts. start: the samples to edit. sigma: standard deviations of all scores.
        before: scores of the unedited samples, where they are known.

    The calibration: ``attribute``, ``unit`` (of a calibrated step, in the measure of the direction's own unit; None where
    no strength of the grid reaches the response), ``strength`` (the same in the direction's own units), ``score_std``,
    ``strengths`` and ``response`` (mean change in standard deviations), ``unreached`` (share of samples that do not
    reach the response at the outermost strength, up and down), ``side_effects`` (attribute -> change in standard
    deviations per calibrated step), ``monotone`` (share of samples), ``samples``, ``labeller``.
    """
    config = config or CalibrationConfig()
    effects = measure_effects(generator, labeller, direction, start, config.strengths, sigma, before)
    return calibrated_by(effects, direction, attribute, config.response, labeller.identity)


def calibrated_by(effects: Effects, direction: Direction, attribute: str, response: float, labeller: str) -> Direction:
    """As ``calibrate``, from effects that were measured already."""
    found = read_calibration(effects, attribute, response)
    calibration = {
        "attribute": attribute,
        "unit": None if found is None else found * direction.unit,
        "strength": found,
        "response_per_step": response,
        "score_std": float(effects.sigma[effects.column(attribute)]),
        "strengths": [float(strength) for strength in effects.strengths],
        "response": [float(value) for value in effects.change(attribute).mean(1)],
        "unreached": _unreached(effects, attribute, response),
        "side_effects": {
            name: float(value * (found or 1.0)) for name, value in zip(effects.attributes, effects.slope(), strict=True)
        },
        "monotone": effects.monotone(attribute),
        "samples": effects.before.shape[0],
        "labeller": labeller,
    }
    return replace(direction, report={**direction.report, "calibration": calibration})


def read_calibration(effects: Effects, attribute: str, response: float) -> float | None:
    """The strength at which the mean score changes by ``response`` standard deviations: the mean of both signs.

    The mean response at the grid's strengths (and 0 at 0) is made monotone (isotonic regression) and read off by linear
    interpolation, never beyond the grid. None where neither sign reaches it.
    """
    from sklearn.isotonic import IsotonicRegression

    strengths = np.append(effects.strengths, 0.0)
    means = np.append(effects.change(attribute).mean(1), 0.0)
    order = np.argsort(strengths)
    x = strengths[order]
    y = IsotonicRegression().fit_transform(x, means[order])
    y = y - np.interp(0.0, x, y)
    reached = [abs(at) for r in (-response, response) if (at := _inverse(x, y, r)) is not None]
    return float(np.mean(reached)) if reached else None


def in_score_units(direction: Direction) -> Direction:
    """The direction with its calibrated unit: strength 1 changes the attribute's score by one standard deviation.

    Raises:
        ConfigError: it was not calibrated, or its response never reached one step.
    """
    calibration: dict[str, Any] = direction.report.get("calibration") or {}
    if not calibration.get("unit"):
        why = "its attribute's score did not change enough" if calibration else "it was fitted without"
        raise ConfigError(
            f"direction {direction.name!r} has no calibrated unit: {why}; fit it with calibration and larger strengths"
        )
    return replace(direction, unit=float(calibration["unit"]))


def _inverse(x: np.ndarray, y: np.ndarray, value: float) -> float | None:
    """The first x, away from 0, where the rising line through (x, y) has a value; None if it has not."""
    if not y[0] <= value <= y[-1]:
        return None
    # np.interp needs rising y; on a plateau the end nearest to 0 counts.
    rising, index = np.unique(y, return_index=True)
    if value < 0:
        index = len(y) - 1 - np.unique(y[::-1], return_index=True)[1]
    return float(np.interp(value, rising, x[index]))


def _unreached(effects: Effects, attribute: str, response: float) -> dict[str, float]:
    change = effects.change(attribute)
    highest, lowest = int(effects.strengths.argmax()), int(effects.strengths.argmin())
    return {
        "up": float((change[highest] < response).mean()),
        "down": float((change[lowest] > -response).mean()),
    }
