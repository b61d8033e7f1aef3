"""Attribute networks: images in, named scores out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganinv.config import StrictModel
from ganinv.errors import DataError


class Attribute(StrictModel):
    """One column of scores: what its numbers are and what their sign means.

    ``logit``: unbounded log-odds, 0 is undecided. ``standardised``: (value - mean) / std of the training data; the
    value itself, in ``unit``, is score * std + mean.
    """

    kind: Literal["logit", "standardised"]
    positive_means: str
    mean: float = 0.0
    std: float = 1.0
    unit: str = ""


class AttributeNet(nn.Module):
    """A small residual network with one shared trunk and one output per attribute.

    Group normalisation, not batch normalisation: an image's scores do not depend on the images beside it, and contrast
    that a generator gets wrong is normalised away.

    Args:
        outputs: number of attributes. channels: width after each halving of the resolution.
    """

    def __init__(self, outputs: int, channels: Sequence[int] = (24, 48, 96, 128), dropout: float = 0.2) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels[0], 3, stride=2, padding=1)
        self.blocks = nn.Sequential(*(_Block(a, b) for a, b in pairwise(channels)))
        self.norm = nn.GroupNorm(8, channels[-1])
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels[-1], outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, R, R] in [-1, 1] to scores [B, outputs]."""
        features = F.silu(self.norm(self.blocks(self.stem(images))))
        scores: Tensor = self.head(self.dropout(features.mean((2, 3))))
        return scores


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


class Labeller:
    """A trained attribute network with everything a direction fitted on its scores must record.

    Args:
        net: outputs one score per attribute, in the order of ``attributes``.
        name, version: who says so; scores of two labellers or versions are not comparable.
        weights_sha256: of the weight file.
        input_size: side of the images the network was trained on, in pixels.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        name: str,
        version: int,
        attributes: Mapping[str, Attribute],
        weights_sha256: str,
        input_size: int = 64,
    ) -> None:
        self.net = net.eval().requires_grad_(False)
        self.name, self.version = name, version
        self.attributes = dict(attributes)
        self.weights_sha256 = weights_sha256
        self.input_size = input_size

    @property
    def identity(self) -> str:
        """``name@version``: what directions and collections record."""
        return f"{self.name}@{self.version}"

    @torch.no_grad()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Score images.

        Args:
            images: [B, 3, R, R], R any size, in [-1, 1] (clamped, as a saved image would be).

        Returns:
            attribute -> float32 [B], independent of the other images of the batch.

        Raises:
            DataError: not a batch of colour images.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise DataError(f"labeller {self.identity} takes images [B, 3, R, R] in [-1, 1], got {tuple(images.shape)}")
        scores = self.net(resize_for_labels(images.float().clamp(-1, 1), self.input_size))
        return {name: scores[:, i] for i, name in enumerate(self.attributes)}

    def to(self, device: torch.device | str) -> Labeller:
        """Move the network, in place."""
        self.net.to(device)
        return self


def resize_for_labels(images: Tensor, size: int) -> Tensor:
    """Images [B, C, R, R] at ``size``: block averages where R is a multiple of it, else antialiased bilinear.

    One rule for every labeller, because the kernel moves the tails of the scores.
    """
    if images.shape[2] == images.shape[3] == size:
        return images
    if images.shape[2] == images.shape[3] and images.shape[2] % size == 0:
        return F.avg_pool2d(images, images.shape[2] // size)
    return F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
