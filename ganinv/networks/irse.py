"""IR-SE-50: the residual face-recognition network that the StyleGAN encoders are built on.

Deng et al. 2019 (ArcFace, section 3.1: the "improved residual unit" without activation after the sum) with
squeeze-and-excitation (Hu et al. 2018, "Squeeze-and-Excitation Networks", section 3).
"""

from __future__ import annotations

from torch import Tensor, nn

UNITS = ((64, 3), (128, 4), (256, 14), (512, 3))
"""Width and number of units of each stage. The first unit of every stage halves the map."""


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from the mean of all channels."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.fc2(self.fc1(x.mean(dim=(2, 3), keepdim=True)).relu()).sigmoid()
        return x * gate


class ResidualUnit(nn.Module):
    """Norm -> 3x3 -> PReLU -> 3x3 with the stride -> norm (-> squeeze-excite), with a shortcut.

    If the width stays the same, the shortcut drops pixels; if it changes, the shortcut is a 1x1 convolution with norm.
    """

    def __init__(self, in_ch: int, out_ch: int, stride: int = 1, *, squeeze: bool = True) -> None:
        super().__init__()
        self.stride = stride
        self.norm1 = nn.BatchNorm2d(in_ch)
        self.conv1 = nn.Conv2d(in_ch, out_ch, 3, 1, 1, bias=False)
        self.act = nn.PReLU(out_ch)
        self.conv2 = nn.Conv2d(out_ch, out_ch, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_ch)
        self.squeeze = SqueezeExcite(out_ch) if squeeze else nn.Identity()
        self.shortcut = (
            nn.Sequential(nn.Conv2d(in_ch, out_ch, 1, stride, bias=False), nn.BatchNorm2d(out_ch))
            if in_ch != out_ch
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        past = x[:, :, :: self.stride, :: self.stride] if self.shortcut is None else self.shortcut(x)
        y = self.act(self.conv1(self.norm1(x)))
        return past + self.squeeze(self.norm2(self.conv2(y)))


def stem(in_ch: int, out_ch: int) -> nn.Sequential:
    """3x3 convolution -> norm -> PReLU, at full size."""
    return nn.Sequential(nn.Conv2d(in_ch, out_ch, 3, 1, 1, bias=False), nn.BatchNorm2d(out_ch), nn.PReLU(out_ch))


class IRSE50(nn.Module):
    """From images [B, C, H, W] to three maps, coarse first: 512 channels at 1/16, 256 at 1/8 and 128 at 1/4 of the size.

    ``widths`` gives their channels in the same order.

    Args:
        stages: with 3, the last stage is left out, and the maps are 256 at 1/8, 128 at 1/4 and 64 at 1/2 of the size (E2Style).
    """

    def __init__(self, in_channels: int = 3, stages: int = 4) -> None:
        super().__init__()
        self.stem = stem(in_channels, 64)
        self.units = nn.ModuleList()
        self.taps: list[int] = []  # the last unit of each stage
        coarse, medium, fine = (width for width, _ in UNITS[stages - 3 : stages][::-1])
        self.widths = (coarse, medium, fine)
        width = 64
        for out, count in UNITS[:stages]:
            self.units.append(ResidualUnit(width, out, stride=2))
            self.units.extend(ResidualUnit(out, out) for _ in range(count - 1))
            self.taps.append(len(self.units) - 1)
            width = out

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.stem(x)
        maps = []
        for i, unit in enumerate(self.units):
            x = unit(x)
            if i in self.taps:
                maps.append(x)
        return maps[-1], maps[-2], maps[-3]
