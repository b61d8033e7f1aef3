"""What a new version of a direction changed against the one before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ganinv.directions.direction import Direction
from ganinv.directions.measuring.comparing import compare_directions
from ganinv.errors import GaninvError

QUALITIES = ("validation_accuracy", "remaining_accuracy", "validation_correlation", "stability", "samples")
"""Keys of a fit's report that are compared."""


def changes_since(
    previous: Direction,
    new: Direction,
    effects_before: Mapping[str, float] | None = None,
    effects_after: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """JSON-able record of what changed; pairs are [before, after].

    Args:
        effects_before, effects_after: attribute -> mean change of its score per step of strength 1, in standard
            deviations, of both directions on the same samples. What the calibrations of their fits measured by default.

    Returns:
        ``previous`` (its version), ``cosine``, ``left`` (share of the new direction that is orthogonal to the old one),
        ``step_ratio`` (length of a step, new over old; see ``compare_directions``), a pair for each of ``QUALITIES``
        that either report has, and ``effects``: attribute -> pair. ``not_compared`` says why there is no cosine, as of
        directions in different spaces.
    """
    out: dict[str, Any] = {"previous": previous.version}
    try:
        found = compare_directions(new, previous)
        out |= {"cosine": found.cosine, "left": found.left_of_first, "step_ratio": found.step_ratio}
    except GaninvError as error:
        out["not_compared"] = str(error)
    for key in QUALITIES:
        pair = [d.report.get(key) for d in (previous, new)]
        if any(isinstance(value, int | float) for value in pair):
            out[key] = pair
    before = effects_before if effects_before is not None else _calibrated(previous)
    after = effects_after if effects_after is not None else _calibrated(new)
    if before and after:
        names = sorted(before.keys() | after.keys())
        out["effects"] = {name: [before.get(name), after.get(name)] for name in names}
    return out


def _calibrated(direction: Direction) -> dict[str, float]:
    return dict((direction.report.get("calibration") or {}).get("side_effects") or {})
