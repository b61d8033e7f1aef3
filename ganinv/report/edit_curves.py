"""The effects of edits: on the score of the attribute that they are meant for, and on all other scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ganinv.report.inversions import columns_of, floats, score_names
from ganinv.store import Collection


@dataclass(frozen=True)
class EffectCurve:
    """How the score of one attribute depends on the strength of one edit.

    Args:
        attribute: the one the edit is meant for. assumed: True if no name says so, and it is the one that changes most.
        strengths: [S], ascending, with 0 for the unedited image. scores: [N, S], NaN where missing. ids: [N].
        monotone: number of images whose score never falls from one strength to the next and is higher at the end.
        of: number of images with two or more scores.
    """

    edit: str
    attribute: str
    assumed: bool
    ids: tuple[str, ...]
    strengths: np.ndarray
    scores: np.ndarray
    monotone: int
    of: int


@dataclass(frozen=True)
class EffectCurves:
    """All edits of a collection.

    Args:
        side_effects: [edits, attributes], mean change of a score per unit strength, in standard deviations of that score.
        scale: the images over which the deviations were taken, in words.
    """

    edits: tuple[str, ...]
    attributes: tuple[str, ...]
    responses: tuple[EffectCurve, ...]
    side_effects: np.ndarray
    scale: str


def read_effects(
    collection: Collection, spread: Mapping[str, float], targets: Mapping[str, str]
) -> EffectCurves | None:
    """The effects in an ``edit-metrics`` collection; None if it has no rows or no scores.

    Args:
        spread: attribute -> standard deviation of its score over the samples. For missing ones, the unedited images are used.
        targets: edit -> attribute that its direction was fitted for.
    """
    columns = columns_of(collection)
    attributes = score_names(columns)
    if not attributes or not {"edit", "strength"}.issubset(columns):
        return None
    wanted = [name for a in attributes for name in (f"score_{a}", f"score_{a}_before") if name in columns]
    table = collection.read(["image_id", "edit", "strength", *wanted])
    before = {a: _before(table, a) for a in attributes}
    own = {a: float(np.nanstd(before[a])) if np.isfinite(before[a]).any() else float("nan") for a in attributes}
    deviation = {a: spread.get(a, own[a]) for a in attributes}
    names = np.array(table["edit"].to_pylist(), dtype=object)
    edits = tuple(dict.fromkeys(names.tolist()))
    side_effects = np.array(
        [[_slope(table, names == e, a, before[a], deviation[a]) for a in attributes] for e in edits]
    )
    responses = []
    for edit, effects in zip(edits, side_effects, strict=True):
        attribute, assumed = _target(edit, attributes, targets, effects)
        responses.append(_response(table, names == edit, edit, attribute, assumed, before[attribute]))
    scale = "the samples" if all(a in spread for a in attributes) else "the unedited images"
    if spread and scale != "the samples":
        scale = "the samples where they have the score, else of the unedited images"
    return EffectCurves(edits, tuple(attributes), tuple(responses), side_effects, scale)


def is_monotone(scores: np.ndarray) -> bool:
    """True if the finite scores never fall and the last is above the first."""
    present = scores[np.isfinite(scores)]
    return len(present) > 1 and bool((np.diff(present) >= 0).all() and present[-1] > present[0])


def _before(table: pa.Table, attribute: str) -> np.ndarray:
    name = f"score_{attribute}_before"
    return floats(table, name) if name in table.schema.names else np.full(table.num_rows, np.nan)


def _slope(table: pa.Table, rows: np.ndarray, attribute: str, before: np.ndarray, deviation: float) -> float:
    """Mean over images of the least-squares slope through the unedited image, in deviations per unit strength."""
    strength, change = floats(table, "strength")[rows], floats(table, f"score_{attribute}")[rows] - before[rows]
    ids = np.array(table["image_id"].to_pylist(), dtype=object)[rows]
    usable = np.isfinite(change) & (strength != 0)
    if not usable.any() or not deviation > 0:
        return float("nan")
    _, image = np.unique(ids[usable].astype(str), return_inverse=True)
    along = np.bincount(image, strength[usable] * change[usable])
    length = np.bincount(image, strength[usable] ** 2)
    return float((along / length).mean() / deviation)


def _target(edit: str, attributes: Sequence[str], targets: Mapping[str, str], effects: np.ndarray) -> tuple[str, bool]:
    for candidate in (edit, targets.get(edit, "")):
        if candidate in attributes:
            return candidate, False
    if contained := [a for a in attributes if a in edit]:
        return max(contained, key=len), False
    sizes = np.nan_to_num(np.abs(effects), nan=-1.0)
    return attributes[int(sizes.argmax())], True


def _response(
    table: pa.Table, rows: np.ndarray, edit: str, attribute: str, assumed: bool, before: np.ndarray
) -> EffectCurve:
    strength, score = floats(table, "strength")[rows], floats(table, f"score_{attribute}")[rows]
    ids = np.array(table["image_id"].to_pylist(), dtype=object)[rows].astype(str)
    images, image = np.unique(ids, return_inverse=True)
    strengths = np.unique(np.concatenate([strength, [0.0]]))
    scores = np.full((len(images), len(strengths)), np.nan)
    zero = int(np.searchsorted(strengths, 0.0))
    scores[image, zero] = before[rows]
    scores[image, np.searchsorted(strengths, strength)] = score
    usable = np.isfinite(scores).sum(axis=1) > 1
    monotone = sum(is_monotone(line) for line in scores[usable])
    return EffectCurve(edit, attribute, assumed, tuple(images.tolist()), strengths, scores, monotone, int(usable.sum()))
