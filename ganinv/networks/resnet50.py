"""ResNet-50 (He et al. 2016, with the stride in the 3x3 convolution), up to its pooled features, 2048 values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1 -> 3x3 with the stride -> 1x1, each with norm, with a shortcut; a ReLU after the sum.

    Args:
        dilation: of the 3x3 convolution.
    """

    def __init__(self, in_ch: int, width: int, stride: int, dilation: int = 1) -> None:
        super().__init__()
        out_ch = width * EXPANSION
        self.conv1, self.bn1 = nn.Conv2d(in_ch, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, out_ch, 1, bias=False), nn.BatchNorm2d(out_ch)
        self.downsample = (
            nn.Sequential(nn.Conv2d(in_ch, out_ch, 1, stride, bias=False), nn.BatchNorm2d(out_ch))
            if stride > 1 or in_ch != out_ch
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        return (self.bn3(self.conv3(y)) + self.downsample(x)).relu()


class Stages(nn.Module):
    """The stem and the stages of a ResNet of bottlenecks, named ``layer1`` and so on; each stage except the first halves the
    resolution.

    Args:
        stages: width and number of blocks of each.
    """

    def __init__(self, stages: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.pool = nn.MaxPool2d(3, 2, 1)
        width = 64
        for number, (out, count) in enumerate(stages):
            blocks = [Bottleneck(width, out, 1 if number == 0 else 2)]
            width = out * EXPANSION
            blocks += [Bottleneck(width, out, 1) for _ in range(count - 1)]
            self.add_module(f"layer{number + 1}", nn.Sequential(*blocks))

        self.count = len(stages)

    def maps(self, x: Tensor) -> Iterator[Tensor]:
        """The map after each stage."""
        x = self.pool(self.bn1(self.conv1(x)).relu())
        for number in range(self.count):
            x = self.get_submodule(f"layer{number + 1}")(x)
            yield x


class ResNet50(Stages):
    """From images [B, 3, H, W] to features [B, 2048]. Parameters have torchvision's names; there is no last layer."""

    def __init__(self) -> None:
        super().__init__(STAGES)

    def forward(self, x: Tensor) -> Tensor:
        *_, last = self.maps(x)
        return last.mean(dim=(2, 3))
