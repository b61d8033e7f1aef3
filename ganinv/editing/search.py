"""Finding where a rising response has a value: bounded, a few evaluations, a whole batch at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from ganinv.config import StrictModel

Outcome = Literal["reached", "out_of_reach", "not_converged", "no_score"]
Evaluate = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(indices [n] of lanes, their strengths [n]) -> responses [n]; NaN if there is none."""


class StrengthSearch(StrictModel):
    """Range and effort of the search for a strength."""

    most: float = Field(default=10.0, gt=0)
    """The largest strength to try, in the direction's own units, in both directions."""
    tolerance: float = Field(default=0.02, gt=0)
    """Tolerance for a reached change, as a fraction of it."""
    renders: int = Field(default=12, ge=2)
    """Maximum number of renderings per image, without the unedited one."""


@dataclass(frozen=True)
class SearchResult:
    """The result of the search, lane by lane: [B] each.

    ``reached``: within the tolerance. ``out_of_reach``: no strength up to ``most`` responds as much; ``strength`` is the
    one that comes nearest. ``not_converged``: the renderings were used up before, or the response jumps over the
    value. ``no_score``: the unedited image has no score.
    """

    strength: np.ndarray
    response: np.ndarray
    outcome: tuple[Outcome, ...]


def find(
    evaluate: Evaluate, at_zero: np.ndarray, aim: np.ndarray, guess: np.ndarray, cfg: StrengthSearch
) -> SearchResult:
    """The strength nearest to 0 at which each lane's response is ``aim``.

    From 0 outwards, towards the side where a rising response gets nearer: first ``guess``, then twice as far each time,
    up to ``most``, until the aim is passed; then between the last two by regula falsi (Illinois), which keeps the bracket.

    Args:
        at_zero: response at strength 0, [B]. aim: [B]. guess: a strength of the right size, [B], positive.
    """
    lanes = _Lanes(at_zero, aim, np.clip(guess, cfg.most / 1024, cfg.most), cfg)
    for _ in range(cfg.renders):
        index = np.flatnonzero(lanes.open)
        if not len(index):
            break
        strengths = lanes.next(index)
        lanes.saw(index, strengths, np.asarray(evaluate(index, strengths), dtype=np.float64))
    return lanes.found()


class _Lanes:
    """The state of the search. ``gap`` is the signed way that is left to the aim: negative before it, positive behind."""

    def __init__(self, at_zero: np.ndarray, aim: np.ndarray, guess: np.ndarray, cfg: StrengthSearch) -> None:
        self.cfg, self.aim = cfg, np.asarray(aim, dtype=np.float64)
        zero = np.asarray(at_zero, dtype=np.float64)
        self.side = np.where(self.aim >= zero, 1.0, -1.0)
        self.enough = cfg.tolerance * np.where(self.aim == 0, 1.0, np.abs(self.aim))
        count = len(self.aim)
        self.low, self.low_gap = np.zeros(count), -np.abs(self.aim - zero)
        self.high, self.high_gap = np.full(count, np.nan), np.full(count, np.nan)
        self.kept = np.zeros(count)  # which end the last step kept: -1 low, +1 high
        self.step = np.asarray(guess, dtype=np.float64)
        self.best, self.best_response = np.zeros(count), zero.copy()
        self.wall = np.full(count, np.nan)  # the nearest strength that has no score
        self.lost = ~np.isfinite(zero)
        self.open = ~self.lost & (np.abs(self.aim - zero) > self.enough)

    def next(self, index: np.ndarray) -> np.ndarray:
        """The signed strengths to try."""
        low, high = self.low[index], self.high[index]
        below, above = self.low_gap[index], self.high_gap[index]
        with np.errstate(invalid="ignore", divide="ignore"):
            between = low - below * (high - low) / (above - below)
        # Never onto an end again: a jump would hold the search there.
        margin = 0.02 * (high - low)
        inside = np.clip(between, low + margin, high - margin)
        outward = np.fmin(np.maximum(self.step[index], 2 * low), (low + self.wall[index]) / 2)
        outward = np.minimum(outward, self.cfg.most)
        return self.side[index] * np.where(np.isnan(high), outward, inside)

    def saw(self, index: np.ndarray, strengths: np.ndarray, responses: np.ndarray) -> None:
        """Take in what the strengths responded."""
        for i, strength, response in zip(index, strengths, responses, strict=True):
            self._saw_one(i, abs(strength), response)

    def _saw_one(self, i: int, distance: float, response: float) -> None:
        if not np.isfinite(response):  # too far: the labeller sees nothing there
            self.wall[i] = distance
            self.open[i] = np.isnan(self.high[i])
            return
        gap = self.side[i] * (response - self.aim[i])
        if abs(gap) < abs(self.best_response[i] - self.aim[i]):
            self.best[i], self.best_response[i] = self.side[i] * distance, response
        bracketed = not np.isnan(self.high[i])
        if gap < 0:
            if bracketed and self.kept[i] > 0:
                self.high_gap[i] /= 2  # Illinois: the same end stayed twice, so it counts for less
            self.low[i], self.low_gap[i], self.kept[i] = distance, gap, 1.0
            if not bracketed and distance >= self.cfg.most:
                self.open[i] = False
        else:
            if bracketed and self.kept[i] < 0:
                self.low_gap[i] /= 2
            self.high[i], self.high_gap[i], self.kept[i] = distance, gap, -1.0
        if abs(gap) <= self.enough[i]:
            self.open[i] = False

    def found(self) -> SearchResult:
        missed = np.abs(self.best_response - self.aim) > self.enough
        outcome: list[Outcome] = []
        for i, lost in enumerate(self.lost):
            if lost:
                outcome.append("no_score")
            elif not missed[i]:
                outcome.append("reached")
            else:
                ended = self.low[i] >= self.cfg.most or np.isfinite(self.wall[i])
                outcome.append("out_of_reach" if ended and np.isnan(self.high[i]) else "not_converged")
        return SearchResult(self.best, self.best_response, tuple(outcome))
