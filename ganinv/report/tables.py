"""The tables of a report: methods, order of methods, errors, provenance."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise

import numpy as np

from ganinv.report.intervals import Estimate, estimate
from ganinv.report.inversions import InversionRun
from ganinv.report.strips import common_ids
from ganinv.report.words import Measure, count, listed, number
from ganinv.store import Collection
from ganinv.version import code_version

EXPECTED_ORDER = ("pti", "w-plus", "e4e", "w-projection")
"""From the smallest reconstruction error to the largest, as the papers report it."""

MOST_ERRORS = 200


@dataclass(frozen=True)
class Value:
    """A number of a table: exact for programs, rounded for people. ``more`` is shown on hovering."""

    value: float
    text: str
    best: bool = False
    more: str = ""


@dataclass(frozen=True)
class MethodRow:
    label: str
    images: int
    values: tuple[Value, ...]


@dataclass(frozen=True)
class MethodTable:
    """Mean of every measure for each method. ``same_images`` says whether the rows are comparable."""

    measures: tuple[Measure, ...]
    rows: tuple[MethodRow, ...]
    same_images: bool


def method_table(
    runs: Sequence[InversionRun], measures: Sequence[Measure], only: Sequence[str] | None = None
) -> MethodTable:
    """Means over the images of each run, or over ``only`` these. The best of a column is marked if all rows have the same
    images.

    NaN is left out of a mean; a measure without any number is left out of the table.
    """
    members = [list(run.ids if only is None else only) for run in runs]
    same = all(ids == members[0] for ids in members)
    found = [
        {measure.key: estimate(run.of(measure.key, ids)) for measure in measures}
        for run, ids in zip(runs, members, strict=True)
    ]
    kept = tuple(m for m in measures if any(np.isfinite(each[m.key].mean) for each in found))
    cells = mean_cells(kept, found, mark=same)
    rows = [MethodRow(run.label, len(ids), line) for run, ids, line in zip(runs, members, cells, strict=True)]
    return MethodTable(kept, tuple(rows), same)


def mean_cells(
    measures: Sequence[Measure], found: Sequence[Mapping[str, Estimate]], *, mark: bool, digits: int = 4
) -> list[tuple[Value, ...]]:
    """Means with their intervals, one line per method; the best of each measure is marked if methods are comparable.

    Args:
        found: for each method, its estimates by the measure's key; a missing one becomes an empty cell.
        mark: whether the best are marked.
    """
    lines: list[tuple[Value, ...]] = []
    for each in found:
        cells = []
        for measure in measures:
            if measure.key not in each:
                cells.append(Value(math.nan, ""))
                continue
            mean = each[measure.key].mean
            others = [e[measure.key].mean for e in found if measure.key in e and not math.isnan(e[measure.key].mean)]
            winner = (min if measure.lower_is_better else max)(others, default=math.nan)
            best = bool(mark and len(found) > 1 and mean == winner)
            shown = number(mean, 3 if measure.key == "seconds" else digits)
            cells.append(Value(mean, shown, best, each[measure.key].text))
        lines.append(tuple(cells))
    return lines


def order_in_words(runs: Sequence[InversionRun]) -> tuple[str, str]:
    """On how many images the methods have the expected order of error, for all of them and for each pair of neighbours.

    The texts are empty if fewer than two of the methods are there, or if they have no image in common.
    """
    found = [run for name in EXPECTED_ORDER if (run := _named(runs, name)) is not None]
    ids = common_ids(found)
    if len(found) < 2 or not ids:
        return "", ""
    steps = np.diff(np.stack([run.of("mse", ids) for run in found]), axis=0) > 0
    holds = int(steps.all(axis=0).sum())
    order = " < ".join(run.label for run in found)
    words = f"MSE {order} holds on {holds} of {count(len(ids), 'image')} ({holds / len(ids):.0%})."
    pairs = [f"{a.label} below {b.label} on {int(s.sum())}" for s, (a, b) in zip(steps, pairwise(found), strict=True)]
    return words, f"{listed(pairs)}." if len(pairs) > 1 else ""


@dataclass(frozen=True)
class ErrorRow:
    where: str
    image_id: str
    code: str
    message: str
    attempts: int


def error_rows(collections: Sequence[tuple[str, Collection]]) -> tuple[list[ErrorRow], int]:
    """The first failures of all collections, and the total number of failures."""
    rows: list[ErrorRow] = []
    total = 0
    for where, collection in collections:
        failures = collection.errors().to_pylist()
        total += len(failures)
        rows += [ErrorRow(where, r["image_id"], r["code"], r["message"], r["attempts"]) for r in failures]
    return rows[:MOST_ERRORS], total


@dataclass(frozen=True)
class ProvenanceBlock:
    title: str
    entries: tuple[tuple[str, str], ...]
    config: str


def provenance_blocks(collections: Sequence[tuple[str, Collection]]) -> list[ProvenanceBlock]:
    """The provenance of every collection, and its whole configuration."""
    blocks = []
    for where, collection in collections:
        header = {"config_digest": "", **collection.provenance()}
        entries = tuple((key, value if isinstance(value, str) else json.dumps(value)) for key, value in header.items())
        config = json.dumps(collection.plan().config, indent=2, sort_keys=True, ensure_ascii=False)
        blocks.append(ProvenanceBlock(where, entries, config))
    return blocks


def versions() -> list[tuple[str, str]]:
    """Versions of the programs that made this report."""
    found = [("python", platform.python_version()), ("ganinv", code_version())]
    for package in ("torch", "numpy", "pyarrow", "matplotlib"):
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            found.append((package, "not installed"))
    return found


def _named(runs: Sequence[InversionRun], name: str) -> InversionRun | None:
    """The run of a method: the one with its name, else one whose name continues it (``w-plus-optimisation``)."""
    exact = [run for run in runs if run.label == name]
    longer = [run for run in runs if name == "w-plus" and run.label.startswith(f"{name}-")]
    return next(iter([*exact, *longer]), None)
