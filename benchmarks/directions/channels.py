"""Single channels of S against directions in W: Attribute Dependency at equal response (StyleSpace's comparison).

All convolution channels are screened by gradient; those with the least side effects to first order are edited, rendered and
scored on some fresh samples, the best for each response is chosen there, and judged on others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ganinv.directions.direction import Direction
from ganinv.directions.fitting.screening import Screening, screen_channels
from ganinv.directions.fitting.streams import stream_w
from ganinv.directions.fitting.stylespace import channel_direction
from ganinv.directions.measuring.effects import Effects
from ganinv.directions.styles import StyleLayout, StyleStatistics, style_statistics
from ganinv.metrics import attribute_dependency

FINE = (0.25, 0.5, 1.0, 2.0, 3.0)
"""Strengths of directions in W, in their units."""
CHANNEL = (2.5, 5.0, 10.0, 20.0)
"""Strengths of channels, in their standard deviations."""
RESPONSES = (0.25, 0.5, 1.0)
"""Changes of the target, in standard deviations of its score, at which edits are compared."""
LEAST = 0.02
"""The change of the target that a channel must make to be a candidate, in standard deviations of both."""


def compare_channels(bench: Any, attributes: tuple[str, ...] = ("glasses", "smile")) -> dict[str, Any]:
    """Per attribute the best channel for each way and response, with its rivals."""
    layout, statistics = StyleLayout.of(bench.generator), style_statistics_of(bench)
    choose, judge = samples(bench)
    screening = screen_channels(bench.generator, bench.labeller, bench.start[choose].w, statistics.std, bench.sigma)
    out: dict[str, Any] = {
        "screened": int(layout.convolutions.sum()),
        "candidates": bench.args.candidates,
        "chosen_on": len(bench.start[choose]),
        "judged_on": len(bench.start[judge]),
        "attributes": {},
    }
    for attribute in attributes:
        channels = candidates(bench, layout, statistics, screening, attribute)
        rivals = rivals_in_w(bench, attribute)
        rows: list[dict[str, Any]] = []
        for way, sign in (("add", 1.0), ("remove", -1.0)):
            rows += [{"way": way, **row} for row in one_way(bench, channels, rivals, attribute, sign)]
        ratio = screening.ratio(attribute)
        out["attributes"][attribute] = {
            "rows": rows,
            **spread(screening, attribute),
            "best_ratio": min(float(ratio[layout.index(*place)]) for place in channels),
            "w_ratio": {name: small_ratio(bench, d, attribute) for name, d in rivals.items()},
        }
    return out


def spread(screening: Screening, attribute: str) -> dict[str, float]:
    """Over how many channels an attribute is spread: the share of the strongest one in the squared derivatives of its score,
    and how many of the strongest have half of them together."""
    column = screening.attributes.index(attribute)
    squares = np.square(screening.signed[screening.layout.convolutions, column])
    shares = np.sort(squares / squares.sum())[::-1]
    return {"strongest": float(shares[0]), "half": int(np.searchsorted(shares.cumsum(), 0.5) + 1)}


def candidates(
    bench: Any, layout: StyleLayout, statistics: StyleStatistics, screening: Screening, attribute: str
) -> dict[tuple[str, int], Direction]:
    """The channels with the least side effects to first order, by (layer, channel)."""
    found = {}
    for index in screening.best(attribute, bench.args.candidates, least=LEAST):
        layer, channel = layout.place(index)
        found[layer.name, channel] = channel_direction(
            layout,
            index,
            float(statistics.std[index]),
            bench.generator.name,
            bench.generator.fingerprint,
            sign=screening.sign(attribute, index),
        )
    return found


def rivals_in_w(bench: Any, attribute: str) -> dict[str, Direction]:
    """InterFaceGAN's directions: of the published recipe and of ridge, as fitted and on all rows of W+."""
    found = {}
    for fit in ("published", "ridge"):
        (direction,) = (d for d in bench.of(fit) if d.report["attribute"] == attribute)
        found[fit] = direction
        if direction.layers is not None:
            found[f"{fit}, all rows"] = replace(direction, layers=None)
    return found


def one_way(
    bench: Any,
    channels: Mapping[tuple[str, int], Direction],
    rivals: Mapping[str, Direction],
    attribute: str,
    sign: float,
) -> list[dict[str, Any]]:
    """A row per response: the channel that was best where it was chosen, its mean-AD and the rivals' where they are judged."""
    choose, judge = samples(bench)
    chosen_by = {place: measure(bench, d, choose, CHANNEL, sign) for place, d in channels.items()}
    w = {name: measure(bench, d, judge, FINE, sign) for name, d in rivals.items()}
    judged: dict[tuple[str, int], Effects] = {}
    rows = []
    for response in RESPONSES:
        found = {place: dependency(effects, attribute, response) for place, effects in chosen_by.items()}
        reached = {place: value for place, value in found.items() if not np.isnan(value)}
        row: dict[str, Any] = {"response": response}
        if reached:
            best = min(reached, key=lambda place: reached[place])
            if best not in judged:
                judged[best] = measure(bench, channels[best], judge, CHANNEL, sign)
            row |= {
                "layer": best[0],
                "channel": best[1],
                "mean_ad": known(dependency(judged[best], attribute, response)),
            }
        row["w"] = {
            name: {
                "mean_ad": known(dependency(effects, attribute, response)),
                "difference": interval(judged[best], effects, attribute, response) if reached else None,
            }
            for name, effects in w.items()
        }
        rows.append(row)
    return rows


def samples(bench: Any) -> tuple[slice, slice]:
    """The fresh samples to choose on, and twice as many to judge on."""
    count = bench.args.compare
    return slice(0, count), slice(count, 3 * count)


def measure(bench: Any, direction: Direction, which: slice, grid: tuple[float, ...], sign: float) -> Effects:
    return bench.edit(direction, tuple(sign * strength for strength in grid), which)


def dependency(effects: Effects, attribute: str, response: float, pick: Any = slice(None)) -> float:
    """Mean-AD at a response, over some of the images; NaN where the edit goes the wrong way or not so far."""
    before, after = effects.before[pick], effects.after[:, pick]
    curve = attribute_dependency(before, after, effects.sigma, effects.attributes, attribute)
    moved = (effects.change(attribute)[:, pick].mean(1) * effects.strengths)[-1] > 0
    return curve.at(response)[0] if moved else float("nan")


def interval(channel: Effects, rival: Effects, attribute: str, response: float) -> list[float] | None:
    """The middle 95 % of the difference in mean-AD, channel less rival, over resampled images."""
    rng, count = np.random.default_rng(0), len(channel.before)
    differences = []
    for _ in range(300):
        pick = rng.integers(0, count, count)
        a, b = (dependency(effects, attribute, response, pick) for effects in (channel, rival))
        differences.append(a - b)
    finite = np.array(differences)[~np.isnan(differences)]
    return [float(value) for value in np.quantile(finite, [0.025, 0.975])] if len(finite) > 200 else None


def small_ratio(bench: Any, direction: Direction, attribute: str) -> float:
    """Mean |change| of the other scores over that of the target, for a small step: what screening has of channels."""
    found = bench.edit(direction, (-0.1, 0.1), samples(bench)[0])
    change = np.abs(found.change()).mean((0, 1))
    at = found.column(attribute)
    return float(np.delete(change, at).mean() / change[at])


def style_statistics_of(bench: Any) -> StyleStatistics:
    return style_statistics(bench.generator, stream_w(bench.generator, bench.args.samples, 0))


def known(value: float) -> float | None:
    """NaN is no JSON."""
    return None if np.isnan(value) else value
