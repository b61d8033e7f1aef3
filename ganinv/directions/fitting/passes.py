"""The passes over labelled samples that fitting a boundary takes. Each reads a block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ganinv.directions.fitting.interfacegan_config import InterFaceGanConfig
from ganinv.directions.fitting.samples import Block, Samples
from ganinv.directions.fitting.separate import RidgeSums
from ganinv.directions.fitting.tails import Tails
from ganinv.errors import DataError

RIDGE_DIMENSIONS = 4096
"""Most dimensions that ridge takes: it keeps several matrices of this size squared."""


@dataclass
class Spread:
    """Mean and standard deviation of a stream, summed about its first value."""

    n: int = 0
    origin: float = 0.0
    sums: np.ndarray = field(default_factory=lambda: np.zeros(2))

    def add(self, values: np.ndarray) -> None:
        if not self.n and len(values):
            self.origin = float(values[0])
        self.n += len(values)
        self.sums += [(values - self.origin).sum(), ((values - self.origin) ** 2).sum()]

    @property
    def mean(self) -> float:
        return float(self.origin + self.sums[0] / max(self.n, 1))

    @property
    def std(self) -> float:
        mean = self.sums / max(self.n, 1)
        return float(np.sqrt(max(mean[1] - mean[0] ** 2, 0.0)))


@dataclass
class ScoreSummary:
    """What a first pass over the scores tells: how many are valid, their spread, and their range."""

    spread: Spread = field(default_factory=Spread)
    left_out: int = 0
    low: float = np.inf
    high: float = -np.inf

    @property
    def n(self) -> int:
        return self.spread.n


@dataclass
class FitData:
    """What a pass over the latents brings: those of the tails, most extreme first, and the sums for ridge."""

    top: np.ndarray
    bottom: np.ndarray
    ridge: RidgeSums | None


@dataclass
class ProjectedSamples:
    """Coordinates of all samples along the fitted normal."""

    std: float
    remaining_accuracy: float | None


def valid(samples: Samples, config: InterFaceGanConfig, attribute: str, *, latents: bool) -> Iterator[Block]:
    """The samples that have a score."""
    for block in samples.blocks(attribute, latents=latents):
        keep = ~np.isnan(block.scores)
        if config.invalid_value is not None:
            keep &= block.scores != config.invalid_value
        yield Block(block.ids[keep], block.scores[keep], block.latents[keep] if latents else block.latents)


def summarise_scores(samples: Samples, config: InterFaceGanConfig, attribute: str) -> ScoreSummary:
    """The first pass. Missing scores are refused here, unless they are to be left out."""
    look, missing, rows = ScoreSummary(), 0, 0
    for block in samples.blocks(attribute, latents=False):
        unscored = np.isnan(block.scores)
        missing, rows = missing + int(unscored.sum()), rows + len(unscored)
        y = block.scores[~unscored]
        y = y if config.invalid_value is None else y[y != config.invalid_value]
        if np.isinf(y).any():
            raise DataError(f"attribute {attribute!r}: scores hold values that are not finite")
        look.spread.add(y)
        look.low, look.high = float(y.min(initial=look.low)), float(y.max(initial=look.high))
    if missing and config.missing == "refuse":
        raise DataError(
            f"attribute {attribute!r}: {missing} of {rows} scores are NaN; score them, or set missing to 'leave out'"
        )
    look.left_out = rows - look.n
    return look


def choose_tails(samples: Samples, config: InterFaceGanConfig, attribute: str, k: int) -> Tails:
    """The pass that finds the k highest and lowest scores. Tails that are not apart are refused."""
    tails = Tails(k)
    for block in valid(samples, config, attribute, latents=False):
        tails.add(block.scores, block.ids)
    low = tails.bottom[0].max()
    if tails.top[0].min() <= low:
        above = int((tails.top[0] > low).sum())
        raise DataError(
            f"attribute {attribute!r}: the highest {k} and the lowest {k} scores overlap: only {above} samples score "
            f"above {low:g} (values {tails.bottom[0].min():g} .. {tails.top[0].max():g}). "
            "Scores are constant, or one class is rarer than the tails: take smaller tails, more samples, or other scores"
        )
    return tails


def read_fit_data(samples: Samples, config: InterFaceGanConfig, attribute: str, tails: Tails) -> FitData:
    """The pass that reads latents to fit on."""
    places = [{sample: place for place, sample in enumerate(ids.tolist())} for _, ids in (tails.top, tails.bottom)]
    parts: list[np.ndarray | None] = [None, None]
    sums = RidgeSums(config.split, config.bootstrap, config.seed) if config.estimator == "ridge" else None
    for block in valid(samples, config, attribute, latents=True):
        x = block.latents
        if not np.isfinite(x).all():
            raise DataError(f"attribute {attribute!r}: latents hold values that are not finite")
        if sums is not None:
            if x.shape[1] > RIDGE_DIMENSIONS:
                raise DataError(
                    f"attribute {attribute!r}: ridge takes up to {RIDGE_DIMENSIONS} dimensions, these latents have "
                    f"{x.shape[1]}; take estimator svc, linear-svc or logistic"
                )
            sums.add(block.ids, x, block.scores)
        ids = block.ids.tolist()
        for side, place in enumerate(places):
            found = [(row, place[sample]) for row, sample in enumerate(ids) if sample in place]
            if parts[side] is None:
                parts[side] = np.empty((tails.k, x.shape[1]), dtype=x.dtype)
            if found:
                rows, at = np.array(found).T
                parts[side][at] = x[rows]  # type: ignore[index]
    assert parts[0] is not None
    assert parts[1] is not None
    return FitData(parts[0], parts[1], sums)


def judge_plane(
    samples: Samples,
    config: InterFaceGanConfig,
    attribute: str,
    tails: Tails,
    vector: np.ndarray,
    intercept: float,
    look: ScoreSummary,
) -> ProjectedSamples:
    """The last pass: how the samples lie along the normal, and on which side of the plane those outside the tails."""
    chosen = set(tails.top[1].tolist()) | set(tails.bottom[1].tolist())
    spread, right, remaining = Spread(), 0, 0
    # The published threshold: the middle of the range, not the median. One outlier moves it.
    middle = (look.high + look.low) / 2
    for block in valid(samples, config, attribute, latents=True):
        coordinate = (block.latents @ vector.astype(block.latents.dtype)).astype(np.float64)
        spread.add(coordinate)
        rest = np.array([sample not in chosen for sample in block.ids.tolist()], dtype=bool)
        right += int(((coordinate[rest] + intercept > 0) == (block.scores[rest] > middle)).sum())
        remaining += int(rest.sum())
    return ProjectedSamples(spread.std, right / remaining if remaining else None)
