"""Locally active channels of S: which part of the image a channel changes (Wu et al. 2021, section 4).

For each sample the gradient of the image with respect to every channel says where the channel acts. A channel votes for the
region that its strongest pixels overlap best; over many images, the share of votes is its rate for that region.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.config import StrictModel
from ganinv.directions.styles import StyleLayer, StyleLayout
from ganinv.errors import DataError
from ganinv.generators.stylegan2 import Generator
from ganinv.labels.segmenters import OTHERS, Segmenter, shrink


class LocaliseConfig(StrictModel):
    """How channels are localised. Published: 1,000 images, maps of 32 x 32."""

    images: int = Field(default=32, ge=1)
    size: int = Field(default=32, ge=2)
    """Side at which gradient maps and masks are compared; at most the image's."""
    discount: float = Field(default=2.0, ge=0)
    """Overlaps are divided by the region's area to this power: small regions win over large ones."""
    least: float = Field(default=0.5, ge=0, le=1)
    """A local channel's rate for its region is above this,"""
    margin: float = Field(default=0.25, ge=0, le=1)
    """and above the next region's by more than this."""


@dataclass(frozen=True)
class LocalChannel:
    """A channel that acts in one region. ``index``: in the flat S."""

    index: int
    layer: str
    channel: int
    region: str
    rate: float
    margin: float


@dataclass
class RegionVotes:
    """Votes of channels for regions, over any number of images. Votes of partitions may be added.

    Attributes:
        counts: int64 [size, K], images in which a channel voted for a region. present: int64 [K], images that have it.
    """

    regions: tuple[str, ...]
    size: int
    discount: float = 2.0
    counts: np.ndarray = field(init=False)
    present: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros((self.size, len(self.regions)), dtype=np.int64)
        self.present = np.zeros(len(self.regions), dtype=np.int64)

    def add(self, maps: Tensor, regions: Tensor) -> None:
        """One image's vote.

        Args:
            maps: [size, P, P], how strongly each channel changes each pixel. regions: int64 [P, P].
        """
        if len(maps) != self.size or maps.shape[1:] != regions.shape:
            raise DataError(
                f"expected maps [{self.size}, P, P] and regions [P, P], got {tuple(maps.shape)} and {tuple(regions.shape)}"
            )
        flat, where = maps.flatten(1), regions.flatten()
        area = torch.bincount(where, minlength=len(self.regions))
        # The o strongest pixels of a channel are those of rank below o, so masks of map and region have equal area.
        order = flat.argsort(dim=1, descending=True, stable=True)
        rank = torch.empty_like(order).scatter_(1, order, torch.arange(flat.shape[1]).expand_as(order).contiguous())
        overlap = torch.full((self.size, len(self.regions)), -1.0)
        for region in area.nonzero()[:, 0].tolist():
            inside = (rank[:, where == region] < area[region]).sum(1)
            overlap[:, region] = inside / float(area[region]) ** self.discount
        # A channel that changes nothing, as far as this image goes, has no vote.
        voters = (flat.amax(1) > 0).numpy()
        self.counts[np.flatnonzero(voters), overlap.argmax(1).numpy()[voters]] += 1
        self.present += (area > 0).numpy()

    def merge(self, others: Iterable[RegionVotes]) -> RegionVotes:
        """These votes and those of other partitions."""
        for other in others:
            self.counts, self.present = self.counts + other.counts, self.present + other.present
        return self

    @property
    def rates(self) -> np.ndarray:
        """[size, K]: share of the images with a region in which a channel voted for it; NaN if none has it."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.present > 0, self.counts / self.present, np.nan)

    def select(self, layout: StyleLayout, least: float = 0.5, margin: float = 0.25) -> list[LocalChannel]:
        """Channels that act in one region, highest rate first; not those of toRGB layers, and none for ``others``."""
        rates = np.nan_to_num(self.rates)
        ordered = np.sort(rates, axis=1)
        ahead = ordered[:, -1] - (ordered[:, -2] if rates.shape[1] > 1 else 0)
        best = rates.argmax(1)
        chosen = (ordered[:, -1] > least) & (ahead > margin) & layout.convolutions
        chosen &= np.array(self.regions)[best] != OTHERS
        rows = sorted(np.flatnonzero(chosen).tolist(), key=lambda i: (-ordered[i, -1], -ahead[i], i))
        local = []
        for i in rows:
            layer, channel = layout.place(i)
            region = self.regions[best[i]]
            local.append(LocalChannel(i, layer.name, channel, region, float(ordered[i, -1]), float(ahead[i])))
        return local


def localise(
    generator: Generator, w: Tensor, segmenter: Segmenter, config: LocaliseConfig | None = None
) -> RegionVotes:
    """Votes of all channels (toRGB layers have none) over samples w [N, num_ws, w_dim]."""
    config = config or LocaliseConfig()
    layout = StyleLayout.of(generator)
    size = min(config.size, generator.resolution)
    votes = RegionVotes(segmenter.regions, layout.size, config.discount)
    for one in w.split(1):
        regions = shrink(segmenter(generator.render(Code(w=one)).clamp(-1, 1)), size, len(segmenter.regions))
        votes.add(gradient_maps(generator, one, size), regions[0].cpu())
    return votes


@torch.no_grad()
def gradient_maps(
    generator: Generator, w: Tensor, size: int, layers: Sequence[str] | None = None, chunk: int = 64
) -> Tensor:
    """How strongly each channel of S changes each pixel of one image: [S channels, size, size], on the CPU.

    The mean over RGB of the magnitude of d(image averaged to size x size) / d(style channel), by forward-mode
    differentiation: a pass per channel, from the channel's layer on, ``chunk`` channels at a time. Rows of toRGB layers
    (and of layers that were not asked for) are zero.

    Args:
        w: [1, num_ws, w_dim].
    """
    layout = StyleLayout.of(generator)
    wanted = {layer.name for layer in layout.layers if not layer.torgb} if layers is None else set(layers)
    maps = torch.zeros(layout.size, size, size)
    for layer, offset in zip(layout.layers, layout.offsets, strict=False):
        if layer.name in wanted:
            maps[offset : offset + layer.width] = _layer_maps(generator, w, layer, size, chunk)
    return maps


def _layer_maps(generator: Generator, w: Tensor, layer: StyleLayer, size: int, chunk: int) -> Tensor:
    k = layer.row  # of a convolution, its own number
    before = generator.synthesize(Code(w=w), stop=k - 1) if k else None

    def pooled(offset: Tensor) -> Tensor:
        image = generator.synthesize(Code(w=w, styles={layer.name: offset}), start=before)
        return F.adaptive_avg_pool2d(image, size)

    zero = w.new_zeros(1, layer.width)

    def derivative(channel: Tensor) -> Tensor:
        return torch.func.jvp(pooled, (zero,), (channel[None],))[1]

    # Under vmap the image itself is computed once per chunk, and only its derivatives once per channel.
    chunks = torch.eye(layer.width, dtype=w.dtype, device=w.device).split(chunk)
    return torch.cat([torch.func.vmap(derivative)(channels)[:, 0].abs().mean(1).cpu() for channels in chunks])
