"""Small shared blocks: a residual backbone with a feature pyramid, and heads from feature maps to latent rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganinv.generators.layers import EqualLinear


class ResidualBlock(nn.Module):
    """GroupNorm -> SiLU -> 3x3, twice, with a shortcut. With group normalisation, images do not depend on their batch."""

    def __init__(self, in_ch: int, out_ch: int, stride: int = 1) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, in_ch)
        self.conv1 = nn.Conv2d(in_ch, out_ch, 3, stride, 1, bias=False)
        self.norm2 = nn.GroupNorm(8, out_ch)
        self.conv2 = nn.Conv2d(out_ch, out_ch, 3, 1, 1)
        self.shortcut = nn.Conv2d(in_ch, out_ch, 1, stride) if stride > 1 or in_ch != out_ch else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(_silu(self.norm1(x)))
        return _sum(self.conv2(_silu(self.norm2(y))), self.shortcut(x))


class PyramidBackbone(nn.Module):
    """Images [B, 3, R, R] to three maps at 8x8 (coarse), 16x16 (medium) and 32x32 (fine), all with ``width`` channels."""

    def __init__(self, resolution: int, in_channels: int = 3, base: int = 32, width: int = 128) -> None:
        super().__init__()
        if resolution < 32:
            raise ValueError(f"the pyramid reads maps of 32x32, 16x16 and 8x8: images need 32 pixels, got {resolution}")
        self.stem = nn.Conv2d(in_channels, base, 3, 1, 1)
        self.blocks = nn.ModuleList()
        widths = {resolution: base}
        size, channels = resolution, base
        while size > 8:
            out = min(channels * 2, width * 2)
            self.blocks.append(nn.Sequential(ResidualBlock(channels, out, stride=2), ResidualBlock(out, out)))
            size, channels = size // 2, out
            widths[size] = channels
        self.lateral = nn.ModuleDict({str(s): nn.Conv2d(widths[s], width, 1) for s in (8, 16, 32)})

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.stem(x)
        maps = {x.shape[-1]: x}
        for block in self.blocks:
            x = block(x)
            maps[x.shape[-1]] = x
        coarse = self.lateral["8"](maps[8])
        medium = _sum(self.lateral["16"](maps[16]), _up(coarse))
        fine = _sum(self.lateral["32"](maps[32]), _up(medium))
        return coarse, medium, fine


class RowHead(nn.Module):
    """One latent row from a feature map: stride-2 convolutions down to 4x4, then a linear layer."""

    def __init__(self, in_ch: int, size: int, out_dim: int, hidden: int = 48) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        while size > 4:
            layers += [nn.Conv2d(in_ch, hidden, 3, 2, 1), nn.LeakyReLU(0.2)]
            in_ch, size = hidden, size // 2
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(hidden * 16, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.convs(x).flatten(1))


def read_together(heads: Sequence[RowHead], x: Tensor) -> list[Tensor]:
    """What heads of one shape say of the same map.

    Their first convolutions are one: it reads the map once, and a processor computes 72 channels in less time than three times
    24.
    """
    firsts = [head.convs[0] for head in heads]
    weight, bias = (torch.cat([getattr(conv, name) for conv in firsts]) for name in ("weight", "bias"))
    together = heads[0].convs[1](F.conv2d(x, weight, bias, stride=2, padding=1))
    parts = together.chunk(len(heads), dim=1)
    return [head.linear(head.convs[2:](part).flatten(1)) for head, part in zip(heads, parts, strict=True)]


class LatentDiscriminator(nn.Module):
    """Distinguishes mapped latents from encoded ones (e4e, section 3.2; Nitzan et al. 2020): an MLP on single rows [N,
    w_dim]."""

    def __init__(self, w_dim: int, hidden: int = 512) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(w_dim, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, 1),
        )

    def forward(self, w: Tensor) -> Tensor:
        return self.mlp(w)


def _silu(x: Tensor) -> Tensor:
    """Into the memory of ``x`` where no gradient needs it: new memory of this size costs twice the activation itself."""
    return F.silu(x, inplace=not x.requires_grad)


def _sum(fresh: Tensor, other: Tensor) -> Tensor:
    """Into the memory of ``fresh``, a convolution's result that nothing else holds, unless the sum is of a wider type."""
    return fresh.add_(other) if fresh.dtype == other.dtype else fresh + other


def _up(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


@torch.no_grad()
def zero_(linear: EqualLinear) -> None:
    """Set a head to zero, so that training starts with zero outputs."""
    linear.weight.zero_()
    linear.bias.zero_()
