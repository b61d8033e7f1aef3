"""SAM's invertibility network (Parmar et al. 2022, section 3.1): it predicts the error of each space at each pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganinv.networks.blocks import PyramidBackbone, ResidualBlock
from ganinv.networks.deeplab import DeepLab

MAPS = 8  # that the trunk gives to the heads
Trunk = Literal["deeplab", "small"]


class ErrorMaps(nn.Module):
    """From images [B, C, H, W] in [-1, 1] to predicted errors [B, spaces, H, W], none negative: one map for each space.

    Args:
        spaces: number of spaces.
        trunk: ``deeplab`` as published, for images of any size, or this project's ``small`` one, for 32 to 128 pixels.
        resolution, base_channels: of the small trunk.
    """

    def __init__(
        self,
        spaces: int,
        *,
        trunk: Trunk = "deeplab",
        in_channels: int = 3,
        resolution: int = 64,
        base_channels: int = 16,
    ) -> None:
        super().__init__()
        small = trunk == "small"
        self.base: nn.Module = _SmallTrunk(resolution, in_channels, base_channels) if small else DeepLab(MAPS)
        self.heads = nn.ModuleList(_Head(smooth=small) for _ in range(spaces))

    def forward(self, images: Tensor) -> Tensor:
        maps = self.base(images)
        return torch.cat([head(maps) for head in self.heads], dim=1)


class _Head(nn.Module):
    """From the trunk's maps to a map of errors. The published activation is a ReLU; ours is smooth, so it has a gradient from
    any start."""

    def __init__(self, *, smooth: bool) -> None:
        super().__init__()
        self.m = nn.Sequential(
            nn.ConvTranspose2d(MAPS, 4, 3, 1, 1),
            nn.GroupNorm(1, 4) if smooth else nn.BatchNorm2d(4),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(4, 1, 1),
            nn.Softplus() if smooth else nn.ReLU(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        return self.m(maps)


class _SmallTrunk(nn.Module):
    def __init__(self, resolution: int, in_channels: int, base: int, width: int = 32) -> None:
        super().__init__()
        self.pyramid = PyramidBackbone(resolution, in_channels, base, width)
        self.maps = nn.Conv2d(width, MAPS, 3, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        fine = self.maps(self.pyramid(images)[2])
        return F.interpolate(fine, size=images.shape[2:], mode="bilinear", align_corners=False)


class SiteEncoder(nn.Module):
    """From an image stacked with a rendering [B, 2 C, H, W] to an offset of generator features [B, channels, side, side].

    It has the layout of HFGI's consultation encoder, with other output sizes. Before training its output is zero.
    """

    def __init__(
        self, channels: int, side: int, size: int, in_channels: int = 6, base: int = 16, most: int = 64
    ) -> None:
        super().__init__()
        self.side = side
        widths: Sequence[int] = [base]
        layers: list[nn.Module] = [nn.Conv2d(in_channels, base, 3, 1, 1)]
        while size > side:
            out = min(2 * widths[-1], most)
            layers.append(ResidualBlock(widths[-1], out, stride=2))
            widths, size = [*widths, out], size // 2
        layers.append(ResidualBlock(widths[-1], widths[-1]))
        self.trunk = nn.Sequential(*layers)
        self.last = nn.Conv2d(widths[-1], channels, 3, 1, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, seen: Tensor) -> Tensor:
        x = self.last(self.trunk(seen))
        if x.shape[-1] == self.side:
            return x
        return F.interpolate(x, size=(self.side, self.side), mode="bilinear", align_corners=False)
