"""The shipped labellers' own network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AttributeNet(nn.Module):
    """A small residual network with one shared trunk and one output per attribute.

    Group normalisation, not batch normalisation: an image's scores do not depend on the images beside it, and contrast
    that a generator gets wrong is normalised away.

    Args:
        outputs: number of attributes. channels: width after each halving of the resolution.
        eye_channels: with these a second, smaller network that sees only the eyes gives the first output (glasses), so that
            nothing elsewhere in the image can stand for them.
    """

    def __init__(
        self,
        outputs: int,
        channels: Sequence[int] = (24, 48, 96, 128),
        dropout: float = 0.2,
        eye_channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.eyes = None if eye_channels is None else EyeNet(eye_channels, dropout)
        self.stem = nn.Conv2d(3, channels[0], 3, stride=2, padding=1)
        self.blocks = nn.Sequential(*(_Block(a, b) for a, b in pairwise(channels)))
        self.norm = nn.GroupNorm(8, channels[-1])
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels[-1], outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, R, R] in [-1, 1] to scores [B, outputs]."""
        features = F.silu(self.norm(self.blocks(self.stem(images))))
        scores: Tensor = self.head(self.dropout(features.mean((2, 3))))
        return scores if self.eyes is None else torch.cat([self.eyes(images), scores[:, 1:]], 1)


class EyeNet(nn.Module):
    """Eyes and brows of an FFHQ-aligned face, enlarged, to one score."""

    REGION = (0.34, 0.62, 0.16, 0.84)
    """Top, bottom, left and right, as fractions of the side."""

    def __init__(self, channels: Sequence[int], dropout: float = 0.2) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels[0], 3, stride=2, padding=1)
        self.blocks = nn.Sequential(*(_Block(a, b) for a, b in pairwise(channels)))
        self.norm = nn.GroupNorm(8, channels[-1])
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels[-1], 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, R, R] in [-1, 1] to scores [B, 1]."""
        side = images.shape[-1]
        top, bottom, left, right = (round(part * side) for part in self.REGION)
        size = (side // 2, side * 5 // 4)  # even as often as it is halved
        eyes = F.interpolate(images[..., top:bottom, left:right], size, mode="bilinear", align_corners=False)
        features = F.silu(self.norm(self.blocks(self.stem(eyes))))
        score: Tensor = self.head(self.dropout(features.mean((2, 3))))
        return score


class _Block(nn.Module):
    """Normalise, activate, convolve, twice, halving the resolution; beside it the averaged input."""

    def __init__(self, in_ch: int, out_ch: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, in_ch), nn.Conv2d(in_ch, out_ch, 3, stride=2, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(8, out_ch), nn.Conv2d(out_ch, out_ch, 3, padding=1)
        self.skip = nn.Conv2d(in_ch, out_ch, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        skip: Tensor = self.skip(F.avg_pool2d(x, 2))
        return skip + y
