"""ResNet-34 as the StyleGAN encoders use it (He et al. 2016): no max-pooling, and a PReLU after the stem."""

from __future__ import annotations

from torch import Tensor, nn

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
"""Width and number of blocks of each stage. The first block of every stage except the first halves the map."""


class BasicBlock(nn.Module):
    """3x3 with the stride -> norm -> ReLU -> 3x3 -> norm, with a shortcut, and a ReLU after the sum."""

    def __init__(self, in_ch: int, out_ch: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_ch, out_ch, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_ch)
        self.conv2 = nn.Conv2d(out_ch, out_ch, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_ch)
        self.shortcut = (
            nn.Sequential(nn.Conv2d(in_ch, out_ch, 1, stride, bias=False), nn.BatchNorm2d(out_ch))
            if stride > 1 or in_ch != out_ch
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(x)).relu()
        return (self.norm2(self.conv2(y)) + self.shortcut(x)).relu()


class ResNet34(nn.Module):
    """From images [B, C, H, W] to three maps, coarse first: 512 channels at 1/16, 256 at 1/8 and 128 at 1/4 of the size."""

    widths = (512, 256, 128)

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        self.blocks = nn.ModuleList()
        self.taps: list[int] = []  # the last block of each stage
        width = 64
        for out, count in STAGES:
            self.blocks.append(BasicBlock(width, out, stride=1 if out == width else 2))
            self.blocks.extend(BasicBlock(out, out) for _ in range(count - 1))
            self.taps.append(len(self.blocks) - 1)
            width = out

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.stem(x)
        maps = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.taps:
                maps.append(x)
        return maps[3], maps[2], maps[1]
