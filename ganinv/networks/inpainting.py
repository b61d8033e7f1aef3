"""An encoder of images with holes (after InvertFill, Yu et al. 2022, and its follow-up MMInvertFill): gated convolutions,
dilated bottlenecks, and a decoder that gives maps at several sizes.

The papers' code was never published: layer sizes here are this project's own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganinv.networks.blocks import RowHead

SMALLEST = 4  # side of the last map


class GatedConv(nn.Module):
    """A convolution and its gate (Yu et al. 2019, "Free-Form Image Inpainting with Gated Convolution", section 3.1)."""

    def __init__(self, in_ch: int, out_ch: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_ch, 2 * out_ch, kernel, stride, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        features, gate = self.conv(x).chunk(2, dim=1)
        return F.leaky_relu(features, 0.2) * gate.sigmoid()


class ContextBottleneck(nn.Module):
    """Parallel convolutions of several dilations, mixed at every position by a softmax, with a shortcut. The dilations are wide
    enough to bring context from beyond a hole."""

    def __init__(self, channels: int, dilations: tuple[int, ...] = (1, 2, 4, 8)) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.branches = nn.ModuleList(nn.Conv2d(channels, channels, 3, 1, d, dilation=d) for d in dilations)
        self.mixing = nn.Conv2d(channels, len(dilations), 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.norm(x))
        share = self.mixing(y).softmax(dim=1)
        return x + sum(share[:, i : i + 1] * branch(y) for i, branch in enumerate(self.branches))


class HoleEncoder(nn.Module):
    """From images with holes [B, C + 1, R, R] (the last channel is 1 where pixels are missing) to maps, by their side.

    Gated convolutions go down to R/8, where the bottlenecks are, and then down to 4. A decoder goes up again to R and also
    reads the maps of the way down. ``maps`` has a map for every power of two from 4 to R; those of R/4, R/2 and R also give an
    image each (``pictures``).
    """

    def __init__(self, resolution: int, img_channels: int, base: int, bottlenecks: int) -> None:
        super().__init__()
        self.resolution = resolution
        eighth = resolution // 8
        self.widths = {resolution: base}
        self.stem = GatedConv(img_channels + 1, base, 5)
        self.down = nn.ModuleDict()
        side, width = resolution, base
        while side > SMALLEST:
            side, wider = side // 2, min(2 * width, 8 * base)
            self.down[str(side)] = GatedConv(width, wider, 3, 2)
            width = self.widths[side] = wider
        self.context = nn.Sequential(*(ContextBottleneck(self.widths[eighth]) for _ in range(bottlenecks)))
        self.up, self.paint = nn.ModuleDict(), nn.ModuleDict()
        for side in (2 * eighth, 4 * eighth, 8 * eighth):
            self.up[str(side)] = GatedConv(self.widths[side // 2] + self.widths[side], self.widths[side])
            self.paint[str(side)] = nn.Conv2d(self.widths[side], img_channels, 1)

    def forward(self, x: Tensor) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """(maps by side, images by side)."""
        side, eighth = self.resolution, self.resolution // 8
        maps = {side: self.stem(x)}
        while side > SMALLEST:
            y = self.down[str(side // 2)](maps[side])
            side //= 2
            maps[side] = self.context(y) if side == eighth else y
        pictures = {}
        for side in (2 * eighth, 4 * eighth, 8 * eighth):
            wider = F.interpolate(maps[side // 2], scale_factor=2, mode="bilinear", align_corners=False)
            maps[side] = self.up[str(side)](torch.cat([wider, maps[side]], dim=1))
            pictures[side] = self.paint[str(side)](maps[side])
        return maps, pictures


class PreModulation(nn.Module):
    """One row of W+ from a map: the output of a head, normalised, then scaled and shifted according to the known part of the
    map.

    Scale and shift are computed from mean and deviation of each channel over the known positions, and are zero before training.
    """

    def __init__(self, channels: int, side: int, w_dim: int, hidden: int) -> None:
        super().__init__()
        self.head = RowHead(channels, side, w_dim, hidden)
        self.norm = nn.LayerNorm(w_dim, elementwise_affine=False)
        self.statistics = nn.Sequential(nn.Linear(2 * channels, w_dim), nn.SiLU(), nn.Linear(w_dim, 2 * w_dim))
        last = self.statistics[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        """``known``: [B, 1, r, r], the share of pixels at each position that are known."""
        seen = (known > 0).to(x.dtype)
        count = seen.sum(dim=(2, 3)).clamp_min(1.0)
        mean = (x * seen).sum(dim=(2, 3)) / count
        spread = ((x - mean[:, :, None, None]).square() * seen).sum(dim=(2, 3)) / count
        scale, shift = self.statistics(torch.cat([mean, (spread + 1e-6).sqrt()], dim=1)).chunk(2, dim=1)
        return scale * self.norm(self.head(x)) + shift
