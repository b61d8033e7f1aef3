"""HyperStyle's curve: how much of a person is preserved along an edit, for each inversion method (Alaluf et al. 2022, figure
6).

The same step changes inversions by different amounts. So similarity is plotted against the change of the attribute that was
*obtained*, and methods are compared at an equal change, within the range that all of them reach. Nothing is extrapolated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from ganinv.errors import DataError
from ganinv.report.inversions import floats
from ganinv.store import Collection, Store

RESAMPLES = 1000


@dataclass(frozen=True)
class EditCurve:
    """One edit of one method's inversions.

    Args:
        strengths: [S], ascending, in units of the direction.
        change: [N, S], of the attribute's score from the unedited inversion, in standard deviations.
        to_source, to_inversion: [N, S], similarity of the edited image to the photograph and to the inversion. The first also
            counts what the inversion lost.
        scale: the images over which the standard deviation was taken, in words.
    """

    method: str
    edit: str
    attribute: str
    strengths: np.ndarray
    change: np.ndarray
    to_source: np.ndarray
    to_inversion: np.ndarray
    scale: str = ""

    def mean(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean change [S], and mean similarity to the source [S]."""
        return self.change.mean(0), self.to_source.mean(0)

    def reach(self) -> tuple[float, float]:
        """The smallest and the largest mean change that the strengths obtain."""
        x, _ = self.path()
        return float(x[0]), float(x[-1])

    def path(self) -> tuple[np.ndarray, np.ndarray]:
        """The mean curve as (change, similarity), ascending. It starts at the smallest change and goes outwards on both sides,
        as long as the change grows."""
        change, similarity = self.mean()
        if (self.strengths * change).sum() < 0:  # a direction against its attribute
            change, similarity = change[::-1], similarity[::-1]
        middle = int(np.abs(change).argmin())
        places = [middle]
        for k in range(middle + 1, len(change)):
            if change[k] > change[places[-1]]:
                places.append(k)
        for k in range(middle - 1, -1, -1):
            if change[k] < change[places[0]]:
                places.insert(0, k)
        return change[places], similarity[places]

    def at(self, change: float) -> float:
        """Mean similarity to the source at a mean change, by linear interpolation; NaN beyond what was reached."""
        x, y = self.path()
        return float(np.interp(change, x, y, left=np.nan, right=np.nan))

    def area(self, low: float, high: float) -> float:
        """Mean similarity over a range of changes; NaN if the range was not reached."""
        x, y = self.path()
        if not x[0] <= low < high <= x[-1]:
            return float("nan")
        grid = np.union1d([low, high], x[(x > low) & (x < high)])
        return float(np.trapezoid(np.interp(grid, x, y), grid) / (high - low))

    def interval(self, number: Callable[[EditCurve], float], seed: int = 0) -> tuple[float, float]:
        """95 % bootstrap interval of a number over the images; NaN if more than one resample in forty has no value."""
        rng, found = np.random.default_rng(seed), []
        for _ in range(RESAMPLES):
            rows = rng.integers(0, len(self.change), len(self.change))
            found.append(number(replace(self, change=self.change[rows], to_source=self.to_source[rows])))
        if np.isnan(found).mean() > 0.025:
            return float("nan"), float("nan")
        low, high = np.nanpercentile(found, [2.5, 97.5])
        return float(low), float(high)


def read_curves(store: Store, edits: Mapping[str, Collection]) -> list[EditCurve]:
    """The curves of every edit in evaluated collections of edits.

    Args:
        edits: method -> its ``edit-metrics``, which were evaluated with a similarity.

    Raises:
        DataError: evaluated without a similarity, or with different ones. StoreError: not evaluated yet.
    """
    named = {method: collection.provenance().get("similarity_name") for method, collection in edits.items()}
    if missing := [method for method, name in named.items() if name is None]:
        raise DataError(
            f"the edits of {', '.join(missing)} were evaluated without a similarity: evaluate them with --similarity embedded, "
            "or with the file of a face network"
        )
    if len(set(named.values())) > 1:
        raise DataError(f"similarities of different networks cannot be compared: {named}; evaluate all with one")
    return [curve for method, collection in edits.items() for curve in _of_method(store, method, collection)]


def _of_method(store: Store, method: str, collection: Collection) -> list[EditCurve]:
    table = collection.read()
    names = np.array(table["edit"].to_pylist(), dtype=object)
    curves = []
    for edit in dict.fromkeys(names.tolist()):
        attribute, std, scale = _measure(store, collection, edit, table)
        part = table.filter(pa.array(names == edit))
        change = (floats(part, f"score_{attribute}") - floats(part, f"score_{attribute}_before")) / std
        columns = {"change": change} | {k: floats(part, f"similarity_{k}") for k in ("to_source", "to_inversion")}
        strengths, arrays = _grid(part, columns)
        curves.append(EditCurve(method, edit, attribute, strengths, **arrays, scale=scale))
    return curves


def _grid(table: pa.Table, columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Columns as [N, S], for images that have every strength."""
    images, row = np.unique(np.array(table["image_id"].to_pylist()), return_inverse=True)
    strengths, column = np.unique(floats(table, "strength"), return_inverse=True)
    arrays = {}
    for name, values in columns.items():
        arrays[name] = np.full((len(images), len(strengths)), np.nan)
        arrays[name][row, column] = values
    whole = np.all([np.isfinite(values).all(1) for values in arrays.values()], axis=0)
    if not whole.any():
        raise DataError("no image has a score and a similarity at every strength; evaluate the edits again")
    return strengths, {name: values[whole] for name, values in arrays.items()}


def _measure(store: Store, collection: Collection, edit: str, table: pa.Table) -> tuple[str, float, str]:
    """The attribute that an edit is meant for, the standard deviation of its score, and the images it was taken over."""
    plan = store.edits[collection.name].plan().config
    spec = next((spec for spec in plan.get("edits", ()) if spec["name"] == edit), None)
    first = next(iter(spec["directions"]), edit).partition("(")[0] if spec else edit
    version = plan.get("direction_versions", {}).get(first)
    name = first.partition("@")[0]
    calibration: dict[str, Any] = {}
    if version is not None:
        calibration = store.directions.get(name, version=version).report.get("calibration") or {}
    attribute = calibration.get("attribute") or name
    if f"score_{attribute}_before" not in table.schema.names:
        known = sorted(c[6:-7] for c in table.schema.names if c.startswith("score_") and c.endswith("_before"))
        raise DataError(f"edit {edit!r} moves {attribute!r}, which was not scored; there are: {', '.join(known)}")
    if calibration.get("score_std"):
        return attribute, float(calibration["score_std"]), "the generator's samples"
    std = float(np.nanstd(floats(table, f"score_{attribute}_before")))
    if not std > 0:
        raise DataError(f"the score of {attribute!r} is the same for all inversions, so its changes have no measure")
    return attribute, std, "the unedited inversions"


def common_range(curves: Sequence[EditCurve]) -> tuple[float, float]:
    """The changes that all curves reach."""
    reaches = [curve.reach() for curve in curves]
    return max(low for low, _ in reaches), min(high for _, high in reaches)
