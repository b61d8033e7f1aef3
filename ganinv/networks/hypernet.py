"""HyperStyle's hypernetwork (Alaluf et al. 2022, section 3.2): an image and its rendering to codes of weight offsets."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ganinv.generators.layers import EqualLinear
from ganinv.networks.resnet import ResNet34
from ganinv.networks.weight_heads import CODE_DIM, ChannelHead, KernelHead

Shape = tuple[int, int, int, int]
SHARED_SHAPE: Shape = (512, 512, 3, 3)
"""Weights of this shape are given by one shared head; every other weight has a head of its own."""


class HyperNetwork(nn.Module):
    """Images beside renderings [B, 6, H, W] in [-1, 1] to {layer: code [B, 512]}; ``heads`` turn codes into offsets.

    Args:
        layers: layer name (``convs.3``) -> shape of its weight.
    """

    def __init__(self, layers: Mapping[str, Shape], in_channels: int = 6) -> None:
        super().__init__()
        self.layers = dict(layers)
        self.trunk = ResNet34(in_channels)
        self.shared = KernelHead(SHARED_SHAPE) if SHARED_SHAPE in layers.values() else None
        self.branches = nn.ModuleDict(
            {_key(n): SharedBranch() if s == SHARED_SHAPE else OwnBranch(s) for n, s in layers.items()}
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        coarse = self.trunk(images)[0]
        return {name: self.branches[_key(name)](coarse) for name in self.layers}

    @property
    def heads(self) -> dict[str, KernelHead | ChannelHead]:
        """Parameter name (``convs.3.weight``) -> the head that turns its code into an offset D; W (1 + D) is meant."""
        heads = {}
        for name in self.layers:
            branch = self.branches[_key(name)]
            head = branch.head if isinstance(branch, OwnBranch) else self.shared
            assert head is not None
            heads[f"{name}.weight"] = head
        return heads


class SharedBranch(nn.Module):
    """The coarse map to the code that the shared head reads."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = _convs([512, 128, 128, 128, 128, 512], strides=(1, 2, 2, 2, 2))
        self.linear = EqualLinear(512, CODE_DIM)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.convs(x).flatten(1))


class OwnBranch(nn.Module):
    """The coarse map to a code, with the head of this layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.convs = _convs([512, 256, 256, CODE_DIM], strides=(2, 2, 2))
        self.head = ChannelHead(shape)

    def forward(self, x: Tensor) -> Tensor:
        return self.convs(x).mean(dim=(2, 3))


def _key(layer: str) -> str:
    return layer.replace(".", "_")  # a ModuleDict takes no dots


def _convs(widths: list[int], strides: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for in_ch, out_ch, stride in zip(widths[:-1], widths[1:], strides, strict=True):
        layers += [nn.Conv2d(in_ch, out_ch, 3, stride, 1), nn.LeakyReLU(0.01)]
    return nn.Sequential(*layers)
