"""The plots of a report. Each takes plain arrays and returns an inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ganinv.report.editability import EditCurve
from ganinv.report.figure import INK, MUTED, SERIES, draw

MOST_POINTS = 300


def color(index: int) -> str:
    """The colour of a series; colours repeat after eight."""
    return SERIES[index % len(SERIES)]


def violins(values: Mapping[str, np.ndarray], title: str, unit: str, log: bool = False) -> str:
    """One horizontal violin per method, with images as dots and the median as a line."""
    shown = {label: _usable(v, log) for label, v in values.items()}

    def paint(axes: Axes) -> None:
        rng = np.random.default_rng(0)
        for place, (label, points) in enumerate(shown.items()):
            tone, heights = color(list(values).index(label)), rng.uniform(-0.12, 0.12, len(points))
            if len(points) > 4 and np.ptp(points) > 0:
                drawn = np.log10(points) if log else points
                body = axes.violinplot([drawn], [place], orientation="horizontal", widths=0.8, showextrema=False)
                for polygon in body["bodies"]:  # type: ignore[attr-defined]
                    if log:
                        polygon.get_paths()[0].vertices[:, 0] = 10 ** polygon.get_paths()[0].vertices[:, 0]
                    polygon.set(facecolor=tone, alpha=0.22, edgecolor="none")
            some = points if len(points) <= MOST_POINTS else rng.choice(points, MOST_POINTS, replace=False)
            axes.scatter(some, place + heights[: len(some)], s=9, color=tone, alpha=0.55, linewidths=0)
            if len(points):
                median = float(np.median(points))
                axes.plot([median, median], [place - 0.32, place + 0.32], color=tone, linewidth=2.6)
        axes.set_yticks(range(len(shown)), list(shown), color=INK)
        axes.set_ylim(len(shown) - 0.45, -0.55)
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        axes.set_xlabel(unit)
        if log:
            axes.set_xscale("log")
            log_ticks(axes.xaxis)
            _limits(axes, np.concatenate(list(shown.values())))

    return draw(paint, 520, 96 + 40 * len(shown), title)


def cost(seconds: Mapping[str, float], quality: Mapping[str, float], title: str, unit: str) -> str:
    """Cost of methods against what they achieve, one labelled dot per method."""

    def paint(axes: Axes) -> None:
        for index, label in enumerate(seconds):
            if np.isfinite(quality[label]) and seconds[label] > 0:
                axes.scatter([seconds[label]], [quality[label]], s=90, color=color(index), zorder=3)
                axes.annotate(label, (seconds[label], quality[label]), (9, 5), textcoords="offset points", color=INK)
        if all(value > 0 for value in seconds.values()):
            axes.set_xscale("log")
            log_ticks(axes.xaxis)
        axes.margins(x=0.28, y=0.2)
        axes.set_xlabel("seconds of computing per image, mean")
        axes.set_ylabel(unit)

    return draw(paint, 520, 300, title)


def loss_bands(curves: Mapping[str, Sequence[np.ndarray]], title: str) -> str:
    """For each method, median and quartile band of the loss at every step, over the images that are still being optimised."""

    def paint(axes: Axes) -> None:
        positive = True
        for index, (label, several) in enumerate(curves.items()):
            if not several:
                continue
            grid = np.full((len(several), max(map(len, several))), np.nan)
            for row, curve in zip(grid, several, strict=True):
                row[: len(curve)] = curve
            steps = np.unique(np.linspace(0, grid.shape[1] - 1, MOST_POINTS).round().astype(int))
            grid = grid[:, steps]
            grid = np.where(np.isfinite(grid), grid, np.nan)
            steps, grid = steps[np.isfinite(grid).any(0)], grid[:, np.isfinite(grid).any(0)]
            low, middle, high = np.nanpercentile(grid, [25, 50, 75], axis=0)
            positive &= bool((low > 0).all())
            axes.fill_between(steps + 1, low, high, color=color(index), alpha=0.18, linewidth=0)
            axes.plot(steps + 1, middle, color=color(index), label=label)
        if positive:
            axes.set_yscale("log")
            log_ticks(axes.yaxis)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("step")
        axes.set_ylabel("loss, each method's own")
        axes.legend()

    return draw(paint, 1060, 320, title)


def response(strengths: np.ndarray, scores: np.ndarray, title: str, attribute: str, tone: int) -> str:
    """An attribute's score against the strength of an edit: each image is a faint line, the median a bold one.

    Args:
        strengths: [S], ascending. scores: [N, S], NaN where missing.
    """

    def paint(axes: Axes) -> None:
        for line in scores[np.linspace(0, len(scores) - 1, min(len(scores), 60)).astype(int)]:
            there = np.isfinite(line)
            axes.plot(strengths[there], line[there], color=color(tone), alpha=0.22, linewidth=1)
        usable = np.isfinite(scores).any(0)
        median = np.nanmedian(scores[:, usable], axis=0)
        axes.plot(strengths[usable], median, color=color(tone), linewidth=2.8, marker="o", markersize=5)
        axes.axvline(0, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
        if len(strengths) <= 7:
            axes.set_xticks(strengths, [f"{s:g}".replace("-", "−") for s in strengths])
        axes.set_xlabel("strength")
        axes.set_ylabel(f"score of {attribute}")

    return draw(paint, 340, 250, title)


def editability(curves: Sequence[EditCurve], tones: Sequence[int], title: str, similarity: str) -> str:
    """Similarity to the source against the change that was obtained: a line per method, a dot per strength.

    Bands are 95 % intervals of the mean over images, at each strength.
    """

    def paint(axes: Axes) -> None:
        for curve, tone in zip(curves, tones, strict=True):
            change, mean = curve.mean()
            spread = (
                1.96 * curve.to_source.std(0, ddof=1 if len(curve.to_source) > 1 else 0) / len(curve.to_source) ** 0.5
            )
            axes.fill_between(change, mean - spread, mean + spread, color=color(tone), alpha=0.13, linewidth=0)
            axes.plot(change, mean, color=color(tone), marker="o", markersize=3.5, label=curve.method)
        axes.axvline(0, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
        axes.set_xlabel(f"obtained change of {curves[0].attribute}, standard deviations")
        axes.set_ylabel(f"similarity to the photograph ({similarity})")
        axes.legend()

    return draw(paint, 620, 380, title)


def quality_bars(names: Sequence[str], series: Mapping[str, Sequence[float]], title: str, chance: float | None) -> str:
    """Horizontal bars in [0, 1], one group per name; a dotted line marks the level of guessing."""

    def paint(axes: Axes) -> None:
        thickness = 0.72 / len(series)
        for index, (label, values) in enumerate(series.items()):
            places = np.arange(len(names)) + (index - (len(series) - 1) / 2) * thickness
            lengths = np.nan_to_num(np.array(values, dtype=np.float64))
            axes.barh(places, lengths, thickness * 0.86, color=color(index), label=label)
            for place, value in zip(places, values, strict=True):
                if np.isfinite(value):
                    axes.text(max(value, 0) + 0.01, place, f"{value:.2f}", va="center", color=MUTED, fontsize=10)
        if chance is not None:
            axes.axvline(chance, color=INK, linewidth=1, linestyle=(0, (2, 3)))
        axes.set_yticks(range(len(names)), list(names), color=INK)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlim(0, 1.12)
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.02 - 0.6 / (len(names) + 2)), ncols=len(series))

    return draw(paint, 520, 110 + (12 + 16 * len(series)) * len(names), title)


def training_curve(steps: np.ndarray, values: np.ndarray, stages: Sequence[float], title: str, tone: int) -> str:
    """A loss over training: faint as measured, bold when smoothed; dotted lines show where a new stage begins."""
    there = np.isfinite(values)
    steps, values = steps[there], values[there]

    def paint(axes: Axes) -> None:
        thin = max(len(values) // (2 * MOST_POINTS), 1)
        axes.plot(steps[::thin], values[::thin], color=color(tone), alpha=0.3, linewidth=0.9)
        smooth = smoothed(values)
        axes.plot(steps[::thin], smooth[::thin], color=color(tone), linewidth=2.2)
        for stage in stages:
            axes.axvline(stage, color=MUTED, linewidth=0.7, linestyle=(0, (1, 3)), alpha=0.7)
        if len(values) and values.min() > 0 and values.max() > 30 * np.median(values):
            axes.set_yscale("log")
            log_ticks(axes.yaxis)
        axes.set_xlabel("step")

    return draw(paint, 340, 220, title)


def smoothed(values: np.ndarray) -> np.ndarray:
    """Mean over a centred window of a thirtieth of the curve. The window is narrower at the ends, so that nothing lags."""
    half = max(len(values) // 60, 1)
    totals = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    reach = np.minimum(half, np.minimum(places, len(values) - 1 - places))
    return (totals[places + reach + 1] - totals[places - reach]) / (2 * reach + 1)


def _usable(values: np.ndarray, log: bool) -> np.ndarray:
    return values[np.isfinite(values) & (values > 0)] if log else values[np.isfinite(values)]


def log_ticks(axis: Axis) -> None:
    """Ticks at 1, 2 and 5 times a power of ten, written as plain numbers: matplotlib would write formulas."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=7))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _limits(axes: Axes, values: np.ndarray) -> None:
    """Limits of a logarithmic axis with space for a label at both ends."""
    if len(values):
        axes.set_xlim(values.min() / 1.35, values.max() * 1.35)
