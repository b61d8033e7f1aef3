"""Heads from feature maps to single latents, as in the published encoders."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ganinv.generators.layers import EqualLinear


class Map2Style(nn.Module):
    """map2style (pSp, Richardson et al. 2021, section 3): stride-2 convolutions down to 1x1, then a linear layer.

    Args:
        size: side of the input map; log2(size) convolutions reduce it to 1x1. Other maps fit if these reduce them to 1x1 as
            well: 12x16 does for 16.
    """

    def __init__(self, in_ch: int, size: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(size.bit_length() - 1):
            layers += [nn.Conv2d(in_ch, width, 3, 2, 1), nn.LeakyReLU(0.01)]
            in_ch = width
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """A map [B, in_ch, H, W] to latents [B, width]."""
        y = self.convs(x)
        if y.shape[2:] != (1, 1):
            raise ValueError(
                f"this head reduces its map to 1x1, but a map of {tuple(x.shape[2:])} ends at {y.shape[2:]}"
            )
        return self.linear(y.flatten(1))


class PooledHead(nn.Module):
    """The efficient head of E2Style (Wei et al. 2022, section III-A): norm -> means over a coarse grid -> one linear layer.

    Args:
        grid: side of the grid. rows: number of latents it gives. norm: layer that normalises the input map.
    """

    def __init__(self, in_ch: int, grid: int, rows: int, width: int, norm: nn.Module) -> None:
        super().__init__()
        self.grid, self.shape = grid, (rows, width)
        self.norm = norm
        self.linear = nn.Linear(in_ch * grid * grid, rows * width)

    def forward(self, x: Tensor) -> Tensor:
        """A map [B, in_ch, H, W] to latents [B, rows, width]."""
        pooled = F.adaptive_avg_pool2d(self.norm(x), self.grid)
        return self.linear(pooled.flatten(1)).unflatten(1, self.shape)
