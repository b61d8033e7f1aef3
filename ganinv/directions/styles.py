"""S, the styles of all layers side by side (Wu et al. 2021, "StyleSpace Analysis"): layout, codes, statistics.

A style is the affine's output, before modulation; a toRGB layer's style is taken before its constant gain, as everywhere in
the literature. Layers come in the order of ``Generator.style_names``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ganinv.errors import ConfigError, DataError
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.stylegan2 import Generator


@dataclass(frozen=True)
class StyleLayer:
    """One layer of S: ``width`` channels, made from W+ row ``row``. ``torgb``: whether it belongs to a toRGB."""

    name: str
    width: int
    row: int
    torgb: bool


@dataclass(frozen=True)
class StyleLayout:
    """Where each channel of S is in the flat vector."""

    layers: tuple[StyleLayer, ...]

    @classmethod
    def of(cls, generator: Generator | GeneratorConfig) -> StyleLayout:
        """The layout of a generator, or of one with this configuration."""
        if isinstance(generator, GeneratorConfig):
            return cls(tuple(_layers_of(generator)))
        return cls(
            tuple(
                StyleLayer(name, layer.affine.weight.shape[0], row, name.startswith("torgbs"))
                for name, layer, row in generator.synthesis.layers()
            )
        )

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each layer begins, and where the last one ends."""
        return (0, *np.cumsum([layer.width for layer in self.layers]).tolist())

    @property
    def size(self) -> int:
        """Channels of S."""
        return self.offsets[-1]

    @property
    def style_layers(self) -> tuple[tuple[str, int], ...]:
        """(name, channels), as a ``Direction`` in S states them."""
        return tuple((layer.name, layer.width) for layer in self.layers)

    @cached_property
    def convolutions(self) -> np.ndarray:
        """[size] True for channels that do not belong to a toRGB layer."""
        return np.repeat([not layer.torgb for layer in self.layers], [layer.width for layer in self.layers])

    def place(self, index: int) -> tuple[StyleLayer, int]:
        """(layer, channel in it) of a place in the flat vector.

        Raises:
            ConfigError: there is no such place.
        """
        if not 0 <= index < self.size:
            raise ConfigError(f"S of this generator has channels 0 .. {self.size - 1}, got {index}")
        at = int(np.searchsorted(self.offsets, index, side="right")) - 1
        return self.layers[at], index - self.offsets[at]

    def index(self, layer: str | int, channel: int) -> int:
        """The place in the flat vector of a channel, by the layer's name or its number in the literature's (layer,
        channel) notation.

        Raises:
            ConfigError: there is no such layer or channel.
        """
        names = [entry.name for entry in self.layers]
        at = layer if isinstance(layer, int) else names.index(layer) if layer in names else -1
        if not 0 <= at < len(names):
            raise ConfigError(f"S has no layer {layer!r}; there are: {', '.join(names)} (0 to {len(names) - 1})")
        if not 0 <= channel < self.layers[at].width:
            raise ConfigError(f"layer {names[at]!r} has channels 0 .. {self.layers[at].width - 1}, got {channel}")
        return self.offsets[at] + channel

    def flat(self, styles: Iterable[Tensor]) -> Tensor:
        """[B, size] of one [B, C] per layer, as ``Generator.styles`` gives them."""
        return torch.cat(list(styles), 1)

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """Layer name -> [B, C] of [B, size]: the inverse of ``flat``."""
        if flat.ndim != 2 or flat.shape[1] != self.size:
            raise DataError(f"S of this generator is [B, {self.size}], got {tuple(flat.shape)}")
        return dict(zip([e.name for e in self.layers], flat.split([e.width for e in self.layers], 1), strict=True))


def _layers_of(cfg: GeneratorConfig) -> Iterable[StyleLayer]:
    """The layout from widths alone: a layer's styles are the input channels of its convolution."""
    for b, width in enumerate(cfg.channels):
        below = cfg.channels[max(b - 1, 0)]
        if b:
            yield StyleLayer(f"convs.{2 * b - 1}", below, 2 * b - 1, False)
        yield StyleLayer(f"convs.{2 * b}", width, 2 * b, False)
        if cfg.architecture == "skip" or 4 * 2**b == cfg.resolution:
            yield StyleLayer(f"torgbs.{b}", width, 2 * b + 1, True)


@torch.no_grad()
def styles_of(generator: Generator, w: Tensor) -> Tensor:
    """S [B, size] of w [B, num_ws, w_dim] (StyleCLIP's "W2S")."""
    return torch.cat(generator.styles(w), 1)


@dataclass(frozen=True)
class StyleStatistics:
    """Mean and standard deviation of each channel over samples, float64 [size]; the unit of edits in S.

    Unlike ``ganinv.metrics.moments.Moments``, which holds the products of all pairs, this holds only squares: S has thousands of
    channels.

    Partial sums of shards add up: n, sum of s and sum of s^2 about ``origin``, which keeps what is small beside a large
    mean.
    """

    n: int
    origin: np.ndarray
    total: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, origin: np.ndarray | None = None) -> StyleStatistics:
        """Of rows [N, size]. Shards that are to be merged need one ``origin``; 1, where biases begin, by default."""
        rows = np.asarray(rows, dtype=np.float64)
        origin = np.ones(rows.shape[1]) if origin is None else np.asarray(origin, dtype=np.float64)
        centred = rows - origin
        return cls(len(rows), origin, centred.sum(0), np.square(centred).sum(0))

    @classmethod
    def merge(cls, parts: Iterable[StyleStatistics]) -> StyleStatistics:
        """The sum of parts, in the order given."""
        merged: StyleStatistics | None = None
        for part in parts:
            merged = part if merged is None else merged + part
        if merged is None:
            raise DataError("there are no statistics to merge; give at least one shard")
        return merged

    def __add__(self, other: StyleStatistics) -> StyleStatistics:
        if not np.array_equal(self.origin, other.origin):
            raise DataError("statistics about different origins cannot be merged; compute the shards about one")
        return StyleStatistics(self.n + other.n, self.origin, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> np.ndarray:
        return self.origin + self.total / self.n

    @property
    def std(self) -> np.ndarray:
        """Population standard deviation, as in published tables."""
        return np.sqrt((self.squares / self.n - np.square(self.total / self.n)).clip(min=0))


def style_statistics(generator: Generator, w: Iterable[np.ndarray | Tensor]) -> StyleStatistics:
    """Statistics of S over batches of w [n, w_dim], as ``stream_w`` draws them."""
    batches = (torch.as_tensor(part).to(generator.device) for part in w)
    rows = (styles_of(generator, part[:, None].expand(-1, generator.num_ws, -1)) for part in batches)
    return StyleStatistics.merge(StyleStatistics.of(part.cpu().numpy()) for part in rows)
