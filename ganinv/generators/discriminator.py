"""The StyleGAN2 discriminator in the three architectures of the paper (figure 7), conditional or not.

Karras et al. 2020 (CVPR); class projection and magnitude limits as in StyleGAN2-ADA (Karras et al. 2020, NeurIPS).
"""

from __future__ import annotations

import itertools
import math
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ganinv.generators.layers import FIR, EqualConv2d, EqualLinear, normalize_2nd_moment
from ganinv.generators.provenance import Provenance

Architecture = Literal["resnet", "skip", "orig"]


class DiscriminatorConfig(BaseModel):
    """The shape of a discriminator. ``channels[i]`` is the width at resolution ``4 * 2**i``, as in the generator.

    Args:
        c_dim: size of the class vector; 0 for none. cmap_dim: size of the class projection (0: the width at 4x4).
        group: samples over which the minibatch standard deviation is taken; None for the whole batch.
        std_channels: channels of statistics that it appends.
        conv_clamp: limit on the magnitude of what each convolution gives.
        num_fp16_res: kept for files that have it; everything here runs in the dtype of the weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    resolution: int
    channels: tuple[int, ...]
    img_channels: int = 3
    group: int | None = Field(4, ge=1)
    c_dim: int = Field(0, ge=0)
    cmap_dim: int = Field(0, ge=0)
    mapping_layers: int = Field(8, ge=0)
    mapping_lr_mul: float = 0.01
    architecture: Architecture = "resnet"
    std_channels: int = Field(1, ge=1)
    conv_clamp: float | None = Field(None, gt=0)
    num_fp16_res: int = Field(0, ge=0)


class DiscriminatorBlock(nn.Module):
    """Two 3x3 convolutions, the second with stride 2.

    ``resnet`` adds a 1x1 branch past them and scales the sum by sqrt(1/2); ``skip`` adds what a fromRGB of its own makes
    of the image at this resolution.
    """

    def __init__(
        self, in_ch: int, out_ch: int, architecture: Architecture = "resnet", rgb: int = 0, clamp: float | None = None
    ) -> None:
        super().__init__()
        self.from_rgb = EqualConv2d(rgb, in_ch, 1) if rgb else None
        self.conv0 = EqualConv2d(in_ch, in_ch, 3)
        self.conv1 = EqualConv2d(in_ch, out_ch, 3, down=True)
        self.skip = None
        if architecture == "resnet":
            self.skip = EqualConv2d(in_ch, out_ch, 1, bias=False, activate=False, down=True)
        self.clamp = clamp

    def forward(self, x: Tensor, image: Tensor | None = None) -> Tensor:
        if self.from_rgb is not None and image is not None:
            x = x + limit(self.from_rgb(image), self.clamp)
        y = limit(self.conv1(limit(self.conv0(x), self.clamp)), self.clamp)
        return y if self.skip is None else (y + self.skip(x)) * math.sqrt(0.5)


class MinibatchStd(nn.Module):
    """Append channels: the standard deviation over groups of samples, averaged over channels and pixels.

    A group has ``group`` samples, or as many as the batch has; a batch that does not divide into such groups is cut into
    the largest equal ones that divide both.
    """

    def __init__(self, group: int | None = 4, channels: int = 1) -> None:
        super().__init__()
        self.group = group
        self.channels = channels

    def forward(self, x: Tensor, isolate: bool = False) -> Tensor:
        """``isolate``: each sample's statistic has a gradient towards that sample alone (same values, to first order)."""
        batch, channels, height, width = x.shape
        group = min(self.group or batch, batch)
        if batch % group:
            group = math.gcd(group, batch)
        y = x.reshape(group, -1, self.channels, channels // self.channels, height, width)
        deviation = y - y.mean(0)
        variance = deviation.square().mean(0).expand_as(y)
        if isolate:
            variance = variance.detach() + (y - y.detach()) * deviation.detach() * (2 / group)
        std = (variance + 1e-8).sqrt().mean(dim=(3, 4, 5)).reshape(batch, self.channels)
        return torch.cat([x, std[:, :, None, None].expand(-1, -1, height, width)], dim=1)


class ClassMapping(nn.Module):
    """Class vectors [B, c_dim] to the directions that the logits are projected on [B, cmap_dim]."""

    def __init__(self, cfg: DiscriminatorConfig, dim: int) -> None:
        super().__init__()
        self.embed = EqualLinear(cfg.c_dim, dim)
        self.fc = nn.ModuleList(
            EqualLinear(dim, dim, lr_mul=cfg.mapping_lr_mul, activate=True) for _ in range(cfg.mapping_layers)
        )

    def forward(self, c: Tensor) -> Tensor:
        x = normalize_2nd_moment(self.embed(c))
        for layer in self.fc:
            x = layer(x)
        return x


class Discriminator(nn.Module):
    """``d(images, c) -> logits [B, 1]``; ``d.features(images)`` gives activations that serve as perceptual features.

    Takes the fields of ``DiscriminatorConfig``.
    """

    def __init__(
        self,
        resolution: int,
        channels: tuple[int, ...],
        img_channels: int = 3,
        group: int | None = 4,
        *,
        c_dim: int = 0,
        cmap_dim: int = 0,
        mapping_layers: int = 8,
        mapping_lr_mul: float = 0.01,
        architecture: Architecture = "resnet",
        std_channels: int = 1,
        conv_clamp: float | None = None,
        num_fp16_res: int = 0,
    ) -> None:
        super().__init__()
        self.cfg = cfg = DiscriminatorConfig(
            resolution=resolution,
            channels=channels,
            img_channels=img_channels,
            group=group,
            c_dim=c_dim,
            cmap_dim=(cmap_dim or channels[0]) if c_dim else 0,
            mapping_layers=mapping_layers if c_dim else 0,
            mapping_lr_mul=mapping_lr_mul,
            architecture=architecture,
            std_channels=std_channels,
            conv_clamp=conv_clamp,
            num_fp16_res=num_fp16_res,
        )
        self.resolution = resolution
        rgb = img_channels if architecture == "skip" else 0
        self.from_rgb = EqualConv2d(img_channels, channels[-1], 1)
        widths = list(reversed(channels))
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(i, o, architecture, rgb if b else 0, conv_clamp)
            for b, (i, o) in enumerate(itertools.pairwise(widths))
        )
        self.last_rgb = EqualConv2d(rgb, channels[0], 1) if rgb and self.blocks else None
        self.std = MinibatchStd(group, std_channels)
        self.conv = EqualConv2d(channels[0] + std_channels, channels[0], 3)
        self.fc = EqualLinear(channels[0] * 16, channels[0], activate=True)
        self.out = EqualLinear(channels[0], cfg.cmap_dim or 1)
        self.mapping = ClassMapping(cfg, cfg.cmap_dim) if c_dim else None
        self.shrink = FIR()
        self.provenance: Provenance | None = None

    @classmethod
    def from_config(cls, cfg: DiscriminatorConfig) -> Discriminator:
        return cls(**cfg.model_dump())

    def forward(self, images: Tensor, c: Tensor | None = None, *, isolate: bool = False) -> Tensor:
        """Logits [B, 1] of images [B, C, R, R] in [-1, 1], with class vectors c [B, c_dim] where it is conditional.

        ``isolate`` cuts the gradients that run from one sample's logit to another sample (see ``MinibatchStd``).
        """
        self._check_classes(c)
        x = self.features(images)[-1]
        x = limit(self.conv(self.std(x, isolate)), self.cfg.conv_clamp)
        x = self.out(self.fc(x.flatten(1)))
        if self.mapping is None or c is None:
            return x
        return (x * self.mapping(c)).sum(dim=1, keepdim=True) / math.sqrt(self.cfg.cmap_dim)

    def features(self, images: Tensor) -> list[Tensor]:
        """Activations [B, C, r, r] after fromRGB and after each block, from full resolution down to 4x4."""
        clamp, image = self.cfg.conv_clamp, images
        x = limit(self.from_rgb(images), clamp)
        out = [x]
        for block in self.blocks:
            x = block(x, image)
            if self.last_rgb is not None:
                image = self.shrink(image, padding=1, stride=2)
            out.append(x)
        if self.last_rgb is not None:
            out[-1] = x + limit(self.last_rgb(image), clamp)
        return out

    def _check_classes(self, c: Tensor | None) -> None:
        if self.mapping is None:
            if c is not None and c.shape[1]:
                raise ValueError(f"this discriminator has no classes, got c of shape {tuple(c.shape)}")
        elif c is None or c.shape[1:] != (self.cfg.c_dim,):
            got = None if c is None else tuple(c.shape)
            raise ValueError(f"this discriminator is conditional: it needs c of shape [B, {self.cfg.c_dim}], got {got}")


def limit(x: Tensor, clamp: float | None) -> Tensor:
    """Magnitudes beyond ``clamp`` cut off; None leaves ``x`` alone."""
    return x if clamp is None else x.clamp(-clamp, clamp)
