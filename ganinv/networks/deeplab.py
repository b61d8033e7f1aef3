"""DeepLab v3+ on ResNet-101 (Chen et al. 2018, "Encoder-Decoder with Atrous Separable Convolution"), output stride 16."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganinv.networks.resnet50 import EXPANSION, Bottleneck, Stages

STAGES = ((64, 3), (128, 4), (256, 23))
"""Width and number of blocks of the stages that are the same as in ResNet-101; the last one keeps its resolution."""
LAST = (512, (2, 4, 8))
"""Width of the last stage, and the dilation of each of its blocks."""
RATES = (1, 6, 12, 18)
"""Dilations of the parallel convolutions."""
SKIP = 48  # channels that the decoder takes of the first stage


class DeepLab(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] to ``classes`` maps of their size [B, classes, H, W]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.backbone = _Backbone()
        self.aspp = _Pyramid(LAST[0] * EXPANSION)
        self.decoder = _Decoder(classes)

    def forward(self, images: Tensor) -> Tensor:
        x, low = self.backbone(images)
        return _to(self.decoder(self.aspp(x), low), images)


class _Backbone(Stages):
    """The last map, at 1/16, and that of the first stage, at 1/4."""

    def __init__(self) -> None:
        super().__init__(STAGES)
        out, dilations = LAST
        inputs = (STAGES[-1][0] * EXPANSION, *(out * EXPANSION for _ in dilations[1:]))
        self.layer4 = nn.Sequential(*(Bottleneck(i, out, 1, d) for i, d in zip(inputs, dilations, strict=True)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low, *_, last = self.maps(x)
        return self.layer4(last), low


class _Atrous(nn.Module):
    def __init__(self, in_ch: int, rate: int) -> None:
        super().__init__()
        kernel, padding = (1, 0) if rate == 1 else (3, rate)
        self.atrous_conv = nn.Conv2d(in_ch, 256, kernel, padding=padding, dilation=rate, bias=False)
        self.bn = nn.BatchNorm2d(256)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.atrous_conv(x)).relu()


class _Pyramid(nn.Module):
    """Convolutions of several dilations and the mean of the whole map, side by side."""

    def __init__(self, in_ch: int) -> None:
        super().__init__()
        for number, rate in enumerate(RATES):
            self.add_module(f"aspp{number + 1}", _Atrous(in_ch, rate))
        self.global_avg_pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(in_ch, 256, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU()
        )
        self.conv1, self.bn1 = nn.Conv2d(256 * (len(RATES) + 1), 256, 1, bias=False), nn.BatchNorm2d(256)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.get_submodule(f"aspp{number + 1}")(x) for number in range(len(RATES))]
        mean = self.global_avg_pool(x)
        parts.append(mean.expand(-1, -1, *x.shape[2:]))
        return self.dropout(self.bn1(self.conv1(torch.cat(parts, dim=1))).relu())


class _Decoder(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(64 * EXPANSION, SKIP, 1, bias=False), nn.BatchNorm2d(SKIP)
        layers: list[nn.Module] = []
        for in_ch, dropped in ((256 + SKIP, 0.5), (256, 0.1)):
            layers += [nn.Conv2d(in_ch, 256, 3, 1, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU(), nn.Dropout(dropped)]
        self.last_conv = nn.Sequential(*layers, nn.Conv2d(256, classes, 1))

    def forward(self, x: Tensor, low: Tensor) -> Tensor:
        low = self.bn1(self.conv1(low)).relu()
        return self.last_conv(torch.cat([_to(x, low), low], dim=1))


def _to(x: Tensor, like: Tensor) -> Tensor:
    # Corner-aligned, as the published weights were trained.
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)
