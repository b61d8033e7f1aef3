"""The method ``stylespace``: for each attribute, the single channel of S with the smallest side effects.

Candidates come from what positives have in common (as published) or from first derivatives; either way each is edited, rendered
and scored, and chosen by its Attribute Dependency at one and the same response.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ganinv.directions.direction import Direction
from ganinv.directions.fitting.context import FitContext
from ganinv.directions.fitting.method import DirectionMethod, Fit
from ganinv.directions.fitting.screening import Screening, screen_channels
from ganinv.directions.fitting.stylespace import (
    Channel,
    StyleSpaceConfig,
    attribute_channels,
    channel_direction,
    choose_positives,
)
from ganinv.directions.measuring.calibration import calibrated_by
from ganinv.directions.styles import StyleLayout, StyleStatistics, styles_of
from ganinv.errors import DataError
from ganinv.metrics import attribute_dependency


class Channels(StyleSpaceConfig, DirectionMethod):
    """One direction per attribute: its best channel."""

    method: Literal["stylespace"] = "stylespace"

    def names(self, context: FitContext) -> list[str]:
        return context.attributes

    def fit(self, context: FitContext) -> Fit:
        return _ChannelFit(self, context)


class _ChannelFit:
    def __init__(self, config: Channels, context: FitContext) -> None:
        self.config, self.context = config, context

    def __call__(self, attribute: str) -> Direction:
        candidates = [self._direction(attribute, *found) for found in self._candidates(attribute)]
        if not candidates:
            raise DataError(f"attribute {attribute!r}: no channel of S has anything to do with it")
        if not self.context.can_measure(attribute):
            return candidates[0]
        measured = [self._measured(candidate, attribute) for candidate in candidates]
        best = min(measured, key=other_changes)
        if not best.report["dependency"]["rises"]:
            raise DataError(
                f"attribute {attribute!r}: none of {len(measured)} candidate channels raises its score; take more channels, "
                "more positives, or ranking: gradient"
            )
        kept = ("layer", "channel", "theta", "ratio", "dependency")
        best.report["candidates"] = [{k: each.report[k] for k in kept if k in each.report} for each in measured]
        return best

    def _candidates(self, attribute: str) -> list[tuple[int, float, dict[str, float]]]:
        """(place in S, sign, why) of the channels that are worth an edit, most promising first."""
        config = self.config
        if config.ranking == "gradient" and self.context.can_measure(attribute):
            screened, ratio = self._screening, self._screening.ratio(attribute)
            chosen = screened.best(attribute, config.channels, torgb=config.torgb)
            return [(i, screened.sign(attribute, i), {"ratio": float(ratio[i])}) for i in chosen]
        channels = self._common(attribute)
        return [(c.index, c.difference, {"theta": c.theta, "difference": c.difference}) for c in channels]

    def _direction(self, attribute: str, index: int, sign: float, why: dict[str, float]) -> Direction:
        report: dict[str, Any] = {"attribute": attribute, "ranking": self.config.ranking, **why}
        return channel_direction(
            self._layout,
            index,
            float(self._statistics.std[index]),
            self.context.origin["generator_name"],
            self.context.origin["generator_fingerprint"],
            name=attribute,
            sign=sign,
            positive_means=self.context.meaning(attribute),
            labeller=self.context.origin.get("labeller"),
            report=report,
        )

    def _common(self, attribute: str) -> list[Channel]:
        """What a few positives have in common."""
        context = self.context
        ids, scores = context.column(attribute)
        rows = choose_positives(scores, ids, self.config, attribute)
        w = context.latents(context.samples().of_ids(ids[rows].tolist()))
        positives = styles_of(context.generator, w).cpu().numpy()
        return attribute_channels(positives, self._statistics, self._layout, self.config)

    def _measured(self, direction: Direction, attribute: str) -> Direction:
        """A channel with its calibration and its Attribute Dependency at the response that channels are compared at."""
        config = self.config
        effects = self.context.measured(direction, config.strengths)
        labeller = self.context.labeller.identity
        calibrated = calibrated_by(effects, direction, attribute, config.response, labeller)
        up = effects.strengths > 0
        curve = attribute_dependency(effects.before, effects.after[up], effects.sigma, effects.attributes, attribute)
        mean_ad, max_ad = curve.at(config.response)
        rises = bool((effects.change(attribute)[up].mean(1) > 0).all())
        found = {
            "response": config.response,
            "mean_ad": None if np.isnan(mean_ad) else mean_ad,  # NaN is not JSON
            "max_ad": None if np.isnan(max_ad) else max_ad,
            "rises": rises,
        }
        return replace(calibrated, report={**calibrated.report, "dependency": found})

    @cached_property
    def _layout(self) -> StyleLayout:
        return StyleLayout.of(self.context.generator)

    @cached_property
    def _statistics(self) -> StyleStatistics:
        context, samples, parts = self.context, self.context.samples(), []
        for block in samples.blocks(next(iter(samples.columns)), latents=True):
            styles = styles_of(context.generator, context.latents(block.latents))
            parts.append(StyleStatistics.of(styles.cpu().numpy()))
        return StyleStatistics.merge(parts)

    @cached_property
    def _screening(self) -> Screening:
        context = self.context
        start = context.fresh(max(context.calibration.samples, 64))  # a derivative of few images is of those images
        return screen_channels(context.generator, context.labeller, start.w, self._statistics.std, context.sigma)


def other_changes(channel: Direction) -> tuple[bool, bool, float]:
    """Sort key, smallest for the best channel; channels that do not reach the response come last, by their theta."""
    found = channel.report["dependency"]
    reached = found["mean_ad"] is not None
    return (
        not found["rises"],
        not reached,
        found["mean_ad"] if reached else channel.report.get("ratio", -channel.report.get("theta", 0.0)),
    )
