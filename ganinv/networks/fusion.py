"""HFGI's networks (Wang et al. 2022, "High-Fidelity GAN Inversion", section 3): one aligns a residual, the other turns it into
a scale and a shift of features."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganinv.generators.layers import EqualConv2d
from ganinv.networks.irse import ResidualUnit, stem


class ResidualAligner(nn.Module):
    """Adaptive distortion alignment: from a residual and a rendering [B, 2 C, H, W] to the residual, moved to where it belongs.

    A U-Net of residual units without squeeze-excite. Output [B, C, H, W], without activation.
    """

    def __init__(self, img_channels: int = 3) -> None:
        super().__init__()
        self.stem = stem(2 * img_channels, 16)
        self.down = nn.ModuleList([_stage(16, 32, 32, 32), _stage(32, 48, 48, 48), _stage(48, 64, 64, 64)])
        self.up = nn.ModuleList(
            [
                _stage(64 + 48, 64, 32, 32, stride=1),
                _stage(32 + 32, 32, 16, 16, stride=1),
                _stage(16 + 16, 16, img_channels, img_channels, stride=1),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        skips = []
        for stage in self.down:
            skips.append(x)
            x = stage(x)
        for stage, skip in zip(self.up, reversed(skips), strict=True):
            x = F.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=False)
            x = stage(torch.cat([x, skip], dim=1))
        return x


class ConsultationEncoder(nn.Module):
    """From an aligned residual [B, C, H, W] to scale and shift of generator features, [B, channels, H/4, W/4] each.

    Both are zero before training, so training starts from the unchanged rendering.
    """

    def __init__(self, channels: int = 512, img_channels: int = 3) -> None:
        super().__init__()
        self.stem = stem(img_channels, 32)
        self.stages = nn.Sequential(_stage(32, 48, 48, 48), _stage(48, 64, 64, 64))
        self.scale = _condition(64, channels)
        self.shift = _condition(64, channels)
        for condition in (self.scale, self.shift):
            nn.init.zeros_(condition[1].get_parameter("weight"))

    def forward(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stages(self.stem(residual))
        return self.scale(x), self.shift(x)


def _stage(*widths: int, stride: int = 2) -> nn.Sequential:
    """Residual units from width to width; the first one has the stride."""
    return nn.Sequential(
        *(
            ResidualUnit(i, o, stride if first else 1, squeeze=False)
            for first, (i, o) in zip((True, False, False), pairwise(widths), strict=True)
        )
    )


def _condition(in_ch: int, channels: int) -> nn.Sequential:
    return nn.Sequential(EqualConv2d(in_ch, channels, 3), EqualConv2d(channels, channels, 3, activate=False))
