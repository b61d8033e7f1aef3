"""Networks that read and write generator features: residual units, fusers of two maps, and the trunk of the Feature-Style
encoder (Yao et al. 2022, "A Style-Based GAN Encoder for High Fidelity Reconstruction of Images and Videos", section 3.2), which
StyleFeatureEditor uses too (Bobkov et al. 2024, section 4.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganinv.networks.blocks import ResidualBlock
from ganinv.networks.irse import UNITS, stem

POOLED = 3
"""Height and width to which each map is averaged before the style heads."""


class PlainUnit(nn.Module):
    """Norm -> 3x3 -> norm -> PReLU -> 3x3 with the stride -> norm, with a shortcut (He et al. 2016, as in ArcFace's
    iResNet)."""

    def __init__(self, in_ch: int, out_ch: int, stride: int = 1) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_ch)
        self.conv1 = nn.Conv2d(in_ch, out_ch, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_ch)
        self.act = nn.PReLU(out_ch)
        self.conv2 = nn.Conv2d(out_ch, out_ch, 3, stride, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(out_ch)
        self.shortcut = (
            nn.Sequential(nn.Conv2d(in_ch, out_ch, 1, stride, bias=False), nn.BatchNorm2d(out_ch))
            if stride > 1 or in_ch != out_ch
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        past = x if self.shortcut is None else self.shortcut(x)
        y = self.act(self.norm2(self.conv1(self.norm1(x))))
        return past + self.norm3(self.conv2(y))


class FeatureStyleTrunk(nn.Module):
    """iResNet-50 whose third stage keeps its size: from images [B, C, H, W] to maps with 64, 128, 256 and 512 channels, at 1/2,
    1/4, 1/4 and 1/8 of the size."""

    widths = tuple(width for width, _ in UNITS)

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.stem = stem(in_channels, 64)
        self.stages = nn.ModuleList()
        width = 64
        for number, (out, count) in enumerate(UNITS):
            first = PlainUnit(width, out, stride=1 if number == 2 else 2)
            self.stages.append(nn.Sequential(first, *(PlainUnit(out, out) for _ in range(count - 1))))
            width = out

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    @classmethod
    def pooled(cls, maps: list[Tensor]) -> Tensor:
        """The input of the style heads: [B, 8640]."""
        return torch.cat([F.adaptive_avg_pool2d(x, POOLED).flatten(1) for x in maps], dim=1)


def content_layers(in_ch: int, out_ch: int) -> nn.Sequential:
    """From a map to features with ``out_ch`` channels: norm -> 3x3 -> norm -> PReLU -> 3x3 -> norm."""
    return nn.Sequential(
        nn.BatchNorm2d(in_ch),
        nn.Conv2d(in_ch, out_ch, 3, 1, 1, bias=False),
        nn.BatchNorm2d(out_ch),
        nn.PReLU(out_ch),
        nn.Conv2d(out_ch, out_ch, 3, 1, 1, bias=False),
        nn.BatchNorm2d(out_ch),
    )


class PublishedFuser(nn.Module):
    """From two maps [B, C, r, r], stacked, to one: 1x1 convolution, then residual units (StyleFeatureEditor's feature fuser,
    and its feature editor)."""

    def __init__(self, in_ch: int, out_ch: int, units: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_ch, out_ch, 1)
        self.units = nn.ModuleList(PlainUnit(out_ch, out_ch) for _ in range(units))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        for unit in self.units:
            x = unit(x)
        return x


class SmallFuser(nn.Module):
    """The same without batch statistics: 1x1 convolution, residual blocks, and a last convolution that starts at zero.

    This form is this project's own. Its output is a correction, so an untrained one corrects nothing.
    """

    def __init__(self, in_ch: int, out_ch: int, width: int, units: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_ch, width, 1)
        self.units = nn.Sequential(*(ResidualBlock(width, width) for _ in range(units)))
        self.last = nn.Conv2d(width, out_ch, 3, 1, 1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.silu(self.units(self.conv(x))))


class SmallContent(nn.Module):
    """From a map of the small backbone, and the image itself, to features of the site's size: [B, width, side, side].

    The image's pixels are moved into channels (Shi et al. 2016), so that no pixel is lost when the map is small.
    """

    def __init__(self, in_ch: int, img_channels: int, resolution: int, side: int, width: int) -> None:
        super().__init__()
        self.side = side
        self.factor = max(1, min(DEEPEST, resolution // side))
        self.conv = nn.Conv2d(in_ch + img_channels * self.factor**2, width, 3, 1, 1)
        self.block = ResidualBlock(width, width)

    def forward(self, x: Tensor, images: Tensor) -> Tensor:
        wide = F.adaptive_avg_pool2d(images, self.side * self.factor)
        deep = F.pixel_unshuffle(wide, self.factor) if self.factor > 1 else wide
        return self.block(self.conv(torch.cat([to_side(x, self.side), deep], dim=1)))


DEEPEST = 8  # pixels of the image, in a row, that one cell of the map holds; larger images are averaged down to that


def to_side(x: Tensor, side: int) -> Tensor:
    """A map [B, C, r, r] at another size: bilinear if it becomes larger, means if it becomes smaller."""
    if x.shape[-1] == side:
        return x
    if x.shape[-1] > side:
        return F.adaptive_avg_pool2d(x, side)
    return F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
