"""The contracting half of the face-parsing U-Net of E2Style (Wei et al. 2022, section III-B; Ronneberger et al. 2015)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (16, 32, 64, 128, 256)


class DoubleConv(nn.Module):
    """3x3 convolution -> norm -> ReLU, twice."""

    def __init__(self, in_ch: int, out_ch: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(in_ch, out_ch, 3, 1, 1), nn.BatchNorm2d(out_ch), nn.ReLU())
        self.conv2 = nn.Sequential(nn.Conv2d(out_ch, out_ch, 3, 1, 1), nn.BatchNorm2d(out_ch), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


class ParsingTrunk(nn.Module):
    """From images [B, 3, H, W] to five maps: one after each of four halvings, and the one in the centre.

    The expanding half, which gives the 19 classes, is not built, because no loss uses it.
    """

    def __init__(self) -> None:
        super().__init__()
        pairs = zip((3, *WIDTHS[:-1]), WIDTHS, strict=True)
        self.levels = nn.ModuleList(DoubleConv(i, o) for i, o in pairs)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for level in list(self.levels)[:-1]:
            x = F.max_pool2d(level(x), 2)
            maps.append(x)
        return [*maps, self.levels[-1](x)]
