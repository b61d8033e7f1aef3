"""HyperStyle's hypernetwork (Alaluf et al. 2022, section 3.2): from an image and its rendering to codes of weight offsets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from ganinv.generators.layers import EqualLinear
from ganinv.networks.blocks import PyramidBackbone
from ganinv.networks.resnet import ResNet34
from ganinv.networks.weight_heads import CODE_DIM, ChannelHead, KernelHead

Shape = tuple[int, int, int, int]
SHARED_SHAPE: Shape = (512, 512, 3, 3)
"""In the published form, weights of this shape have one shared head; every other weight has its own."""

Trunk = Literal["resnet-34", "small"]


class HyperNetwork(nn.Module):
    """From images stacked with renderings [B, 2 C, H, W] in [-1, 1] to {layer: code [B, code_dim]}; ``heads`` turn codes into
    offsets.

    Args:
        layers: layer name (``convs.3``, ``torgbs.1``) -> shape of its weight.
        shared_shape: shape of the weights that share one head; None gives every layer its own head.
        trunk: ``resnet-34`` as published, for images of 256 pixels, or this project's ``small`` one, for 32 to 128.
        resolution, base_channels, pyramid_channels: of the small trunk.
    """

    def __init__(
        self,
        layers: Mapping[str, Shape],
        in_channels: int = 6,
        *,
        code_dim: int = CODE_DIM,
        shared_shape: Shape | None = SHARED_SHAPE,
        trunk: Trunk = "resnet-34",
        resolution: int = 256,
        base_channels: int = 16,
        pyramid_channels: int = 96,
    ) -> None:
        super().__init__()
        self.layers = dict(layers)
        small = trunk == "small"
        self.trunk: nn.Module = (
            PyramidBackbone(resolution, in_channels, base_channels, pyramid_channels)
            if small
            else ResNet34(in_channels)
        )
        self.shared = KernelHead(shared_shape, code_dim) if shared_shape in layers.values() and shared_shape else None
        branches: dict[str, nn.Module] = {}
        for name, shape in layers.items():
            own = None if self.shared is not None and shape == shared_shape else ChannelHead(shape, code_dim)
            if small:
                branches[_key(name)] = SmallBranch(pyramid_channels, code_dim, own)
            else:
                branches[_key(name)] = SharedBranch(code_dim) if own is None else OwnBranch(own, code_dim)
        self.branches = nn.ModuleDict(branches)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        coarse = self.trunk(images)[0]
        return {name: self.branches[_key(name)](coarse) for name in self.layers}

    @property
    def heads(self) -> dict[str, KernelHead | ChannelHead]:
        """Parameter name (``convs.3.weight``) -> the head that turns its code into an offset D; the weight becomes W (1 +
        D)."""
        heads: dict[str, KernelHead | ChannelHead] = {}
        for name in self.layers:
            own = getattr(self.branches[_key(name)], "head", None)
            head = self.shared if own is None else own
            assert head is not None
            heads[f"{name}.weight"] = head
        return heads

    @torch.no_grad()
    def begin_at_nothing(self) -> None:
        """Set every offset to zero, so that training begins with the unchanged generator. Only the last factor of a head is
        zero, so that there is a gradient."""
        for head in self.heads.values():
            if isinstance(head, KernelHead):
                zeros: tuple[Tensor, ...] = (head.w2, head.b2, head.b1)
            else:
                zeros = tuple(head.linear.parameters())
            for tensor in zeros:
                tensor.zero_()


class SharedBranch(nn.Module):
    """From the coarse map to the code that the shared head reads."""

    def __init__(self, code_dim: int = CODE_DIM) -> None:
        super().__init__()
        self.convs = _convs([512, 128, 128, 128, 128, 512], strides=(1, 2, 2, 2, 2))
        self.linear = EqualLinear(512, code_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.convs(x).flatten(1))


class OwnBranch(nn.Module):
    """From the coarse map to a code, with the head of this layer. For a 1x1 kernel (toRGB) there is one more convolution."""

    def __init__(self, head: ChannelHead, code_dim: int = CODE_DIM) -> None:
        super().__init__()
        widths = [512, 256, 256, code_dim] if head.shape[-1] > 1 else [512, 256, 256, 256, code_dim]
        self.convs = _convs(widths, strides=(2,) * (len(widths) - 1))
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return self.convs(x).mean(dim=(2, 3))


class SmallBranch(nn.Module):
    """From the small trunk's coarse map of 8x8 to a code, with or without a head of its own."""

    def __init__(self, width: int, code_dim: int, head: ChannelHead | None, hidden: int = 24) -> None:
        super().__init__()
        self.convs = _convs([width, hidden], strides=(2,))
        self.linear = EqualLinear(hidden * 16, code_dim)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.convs(x).flatten(1))


def _key(layer: str) -> str:
    return layer.replace(".", "_")  # a ModuleDict takes no dots


def _convs(widths: list[int], strides: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for in_ch, out_ch, stride in zip(widths[:-1], widths[1:], strides, strict=True):
        layers += [nn.Conv2d(in_ch, out_ch, 3, stride, 1), nn.LeakyReLU(0.01)]
    return nn.Sequential(*layers)
