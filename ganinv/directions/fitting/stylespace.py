"""StyleSpace: single channels that control an attribute (Wu et al. 2021, section 5), and edits of one channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ganinv.config import StrictModel
from ganinv.directions.direction import Direction
from ganinv.directions.styles import StyleLayout, StyleStatistics
from ganinv.errors import ConfigError, DataError


class StyleSpaceConfig(StrictModel):
    """Attribute channels from a few positive examples. Published: 10 of the 1,000 best scored."""

    ranking: Literal["theta", "gradient"] = "theta"
    """``theta``: what the positives have in common, as published. ``gradient``: all channels by what they change, to
    first order (see ``ganinv.directions.fitting.screening``). The best of ``channels`` candidates is chosen by its edits."""

    positives: int = Field(default=10, ge=2)
    """Examples that are compared with the population."""
    bank: int = Field(default=1000, ge=2)
    """They are drawn from this many samples with the best scores (or all of them, if there are fewer)."""
    channels: int = Field(default=8, ge=1)
    """How many channels to keep, best first."""
    torgb: bool = False
    """Whether channels of toRGB layers may be found. They change colours everywhere; the paper leaves them out."""
    strengths: tuple[float, ...] = (-20.0, -10.0, -5.0, 5.0, 10.0, 20.0)
    """At which the channels' edits are measured, in standard deviations of the channel."""
    response: float = Field(default=1.0, gt=0)
    """Change of the attribute's score, in its standard deviations, at which channels are compared."""
    seed: int = 0


@dataclass(frozen=True)
class Channel:
    """A channel that sets the positives apart.

    Args:
        index: in the flat S. layer: its layer. channel: its number in the layer.
        difference: mean of the positives, in standard deviations from the population's mean; its sign is the edit's.
        theta: |difference| over the standard deviation among the positives, both in the population's deviations: the
            ranking score.
    """

    index: int
    layer: str
    channel: int
    difference: float
    theta: float


def choose_positives(scores: np.ndarray, ids: np.ndarray, config: StyleSpaceConfig, attribute: str) -> np.ndarray:
    """Row numbers of the positives: a random draw from the best scored samples, which ids make definite.

    Raises:
        DataError: not enough samples with a score, or scores that are all the same; names the attribute.
    """
    from ganinv.directions.fitting.tails import select_tails

    valid = np.flatnonzero(np.isfinite(scores))
    if len(valid) < max(2 * config.positives, 4) or scores[valid].std() == 0:
        raise DataError(
            f"attribute {attribute!r}: {len(valid)} valid scores between {scores[valid].min(initial=0):g} and "
            f"{scores[valid].max(initial=0):g}; {config.positives} positives need at least twice as many samples, and "
            "scores that differ"
        )
    bank = min(config.bank, len(valid) // 2)
    top, _ = select_tails(scores[valid], ids[valid], bank)
    rng = np.random.default_rng(config.seed)
    return valid[top[rng.permutation(len(top))[: config.positives]]]


def attribute_channels(
    positives: np.ndarray,
    statistics: StyleStatistics,
    layout: StyleLayout,
    config: StyleSpaceConfig | None = None,
) -> list[Channel]:
    """Channels that positive examples have in common and the population has not, best first.

    Args:
        positives: S [P, size] of the examples.

    Raises:
        DataError: fewer than two positives, or S of another generator.
    """
    config = config or StyleSpaceConfig()
    s = np.asarray(positives, dtype=np.float64)
    if s.ndim != 2 or s.shape[1] != layout.size or len(s) < 2:
        raise DataError(f"positives must be S [P, {layout.size}] of at least two examples, got {s.shape}")
    std = statistics.std
    moving = std > 1e-12  # a channel that never varies says nothing
    difference = np.divide(s - statistics.mean, std, out=np.zeros_like(s), where=moving)
    mean, spread = difference.mean(0), difference.std(0)
    theta = np.divide(np.abs(mean), spread, out=np.zeros_like(mean), where=moving & (spread > 1e-12))
    if not config.torgb:
        theta = np.where(layout.convolutions, theta, -1.0)
    order = np.lexsort((np.arange(len(theta)), -theta))[: config.channels]
    return [_channel(layout, int(i), float(mean[i]), float(theta[i])) for i in order if theta[i] > 0]


def channel_direction(
    layout: StyleLayout,
    index: int,
    std: float,
    generator_name: str,
    generator_fingerprint: str,
    *,
    name: str | None = None,
    sign: float = 1.0,
    positive_means: str = "",
    labeller: str | None = None,
    report: dict[str, Any] | None = None,
) -> Direction:
    """The edit of one channel as a direction in S: one step is one standard deviation of the channel.

    Args:
        std: of the channel over samples. sign: -1 where lower values mean more of the attribute.

    Raises:
        ConfigError: no such channel, or one that never varies.
    """
    layer, channel = layout.place(index)
    if not std > 0:
        raise ConfigError(f"channel {channel} of {layer.name} never varies over samples: it has no unit")
    vector = np.zeros(layout.size, dtype=np.float32)
    vector[index] = 1.0 if sign >= 0 else -1.0
    return Direction(
        name=name or f"s-{layer.name}-{channel}",
        vector=vector,
        space="s",
        generator_name=generator_name,
        generator_fingerprint=generator_fingerprint,
        method="stylespace",
        unit=float(std),
        positive_means=positive_means,
        labeller=labeller,
        style_layers=layout.style_layers,
        report={"layer": layer.name, "channel": channel, "std": float(std), **(report or {})},
    )


def _channel(layout: StyleLayout, index: int, difference: float, theta: float) -> Channel:
    layer, channel = layout.place(index)
    return Channel(index, layer.name, channel, difference, theta)
