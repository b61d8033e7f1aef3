"""The StyleGAN2 discriminator (residual architecture, minibatch standard deviation at 4x4)."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from ganinv.generators.layers import EqualConv2d, EqualLinear


class DiscriminatorBlock(nn.Module):
    """Two 3x3 convolutions, the second with stride 2, and a 1x1 skip; their sum is scaled by sqrt(1/2)."""

    def __init__(self, in_ch: int, out_ch: int) -> None:
        super().__init__()
        self.conv0 = EqualConv2d(in_ch, in_ch, 3)
        self.conv1 = EqualConv2d(in_ch, out_ch, 3, down=True)
        self.skip = EqualConv2d(in_ch, out_ch, 1, bias=False, activate=False, down=True)

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv1(self.conv0(x)) + self.skip(x)) * math.sqrt(0.5)


class MinibatchStd(nn.Module):
    """Append one channel: the standard deviation over groups of ``group`` samples, averaged over channels and pixels."""

    def __init__(self, group: int = 4) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor, isolate: bool = False) -> Tensor:
        """``isolate``: each sample's statistic has a gradient towards that sample alone (same values, to first order)."""
        batch, channels, height, width = x.shape
        group = math.gcd(self.group, batch)
        y = x.reshape(group, -1, channels, height, width)
        deviation = y - y.mean(0)
        variance = deviation.square().mean(0).expand_as(y)
        if isolate:
            variance = variance.detach() + (y - y.detach()) * deviation.detach() * (2 / group)
        std = (variance + 1e-8).sqrt().mean(dim=(2, 3, 4)).reshape(batch)
        return torch.cat([x, std[:, None, None, None].expand(-1, 1, height, width)], dim=1)


class Discriminator(nn.Module):
    """``d(images) -> logits [B, 1]``; ``d.features(images)`` gives the activations that serve as perceptual features.

    ``channels[i]`` is the width at resolution ``4 * 2**i``, as in the generator's config.
    """

    def __init__(self, resolution: int, channels: tuple[int, ...], img_channels: int = 3, group: int = 4) -> None:
        super().__init__()
        self.resolution = resolution
        self.from_rgb = EqualConv2d(img_channels, channels[-1], 1)
        widths = list(reversed(channels))
        self.blocks = nn.ModuleList(DiscriminatorBlock(i, o) for i, o in itertools.pairwise(widths))
        self.std = MinibatchStd(group)
        self.conv = EqualConv2d(channels[0] + 1, channels[0], 3)
        self.fc = EqualLinear(channels[0] * 16, channels[0], activate=True)
        self.out = EqualLinear(channels[0], 1)

    def forward(self, images: Tensor, c: Tensor | None = None, *, isolate: bool = False) -> Tensor:
        """Logits [B, 1]. ``isolate`` cuts the gradients that run from one sample's logit to another sample (see
        ``MinibatchStd``)."""
        if c is not None and c.shape[1]:
            raise ValueError(f"this discriminator has no classes, got c of shape {tuple(c.shape)}")
        x = self.from_rgb(images)
        for block in self.blocks:
            x = block(x)
        x = self.conv(self.std(x, isolate))
        return self.out(self.fc(x.flatten(1)))

    def features(self, images: Tensor) -> list[Tensor]:
        """Activations [B, C, r, r] after fromRGB and after each block, from full resolution down to 4x4."""
        x = self.from_rgb(images)
        out = [x]
        for block in self.blocks:
            x = block(x)
            out.append(x)
        return out
