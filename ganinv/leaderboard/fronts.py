"""What a method costs against what it achieves: seconds and bytes against fidelity, identity and editability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from ganinv.leaderboard.board import Board, Row
from ganinv.report.figure import INK, MUTED, SERIES, draw
from ganinv.report.plots import log_ticks

_COSTS = (("seconds", "processor seconds per image"), ("bytes", "bytes per image"))


def front(cost: Sequence[float], quality: Sequence[float]) -> list[int]:
    """Indices of the points that no point of equal or lower cost beats, the cheapest first. Smaller quality is better; NaN is
    never among them."""
    best, out = np.inf, list[int]()
    for k in sorted(range(len(cost)), key=lambda k: (cost[k], quality[k])):
        if quality[k] < best:
            best = quality[k]
            out.append(k)
    return out


def fronts(board: Board, dataset: str) -> str:
    """An inline SVG with six plots. Each method is a dot; the methods on the front are named and connected. Controls are left
    out."""
    rows = {name: row for name, row in board.rows[dataset].items() if not row.control}
    qualities = _qualities(board, rows)

    def paint(whole: Axes) -> None:
        figure = whole.figure
        whole.remove()
        for line, (cost, words) in enumerate(_COSTS):
            for place, (label, values) in enumerate(qualities.items()):
                axes = figure.add_subplot(len(_COSTS), len(qualities), 1 + line * len(qualities) + place)
                _plot(axes, [getattr(row.cost, cost) for row in rows.values()], values, list(rows))
                axes.set_xlabel(words)
                axes.set_ylabel(label)

    return draw(paint, 360 * len(qualities), 600, f"What it costs, what it gives: {dataset}")


def _qualities(board: Board, rows: Mapping[str, Row]) -> dict[str, list[float]]:
    """Label -> a number for each method; smaller is better."""

    def mean(row: Row, measure: str) -> float:
        return board.mean(row, measure).mean if measure in row.values else np.nan

    found = {
        "features: distance": [mean(row, "features") for row in rows.values()],
        "identity: distance": [mean(row, "identity") for row in rows.values()],
    }
    if kept := [f"{edit.direction}_kept" for edit in board.protocol.edits]:
        shares = [float(np.mean([mean(row, name) for name in kept])) for row in rows.values()]
        found["edits that do not keep the person, share"] = [1 - share for share in shares]
    there = {label: values for label, values in found.items() if np.isfinite(values).any()}
    return there or {"MSE": [mean(row, "mse") for row in rows.values()]}


def _plot(axes: Axes, cost: list[float], quality: list[float], names: list[str]) -> None:
    on = front(cost, quality)
    axes.scatter(cost, quality, s=22, color=MUTED, alpha=0.6, linewidths=0)
    axes.plot([cost[k] for k in on], [quality[k] for k in on], color=SERIES[0], marker="o", markersize=6)
    for k, name in enumerate(names):
        if np.isfinite(quality[k]):
            shade, size = (INK, 9) if k in on else (MUTED, 7)
            axes.annotate(name, (cost[k], quality[k]), (4, 4), textcoords="offset points", color=shade, fontsize=size)
    axes.set_xscale("log")
    log_ticks(axes.xaxis)
    axes.margins(x=0.2, y=0.12)
