"""A warm start for the generator on a small data set: latents of the training images are given, not searched.

Generative latent optimisation (Bojanowski et al. 2018) starts every training image's latent at its whitened PCA coefficients.
These are nearly N(0, I), so the generator that learns to decode them can be sampled at once: blurred, but faces, and as
varied as the data. Adversarial training then only has to sharpen. On a CPU this saves most of the first 100,000 images.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ganinv.config import StrictModel
from ganinv.optim.configs import MuonConfig

LARGEST = 32  # pixels: what components tell apart does not need more


class WarmStartConfig(StrictModel):
    """The first steps of a training, in which coefficients are decoded; the learning rates fall along a cosine."""

    steps: int = Field(3125, ge=1)
    optimizer: MuonConfig = MuonConfig(lr=0.02, adam_lr=0.003, mapping_scale=0.3)
    floor: float = Field(0.15, ge=0, le=1)
    """Share of themselves that the learning rates do not fall below."""


class Components:
    """Whitened principal components of a data set: images to latents that are about N(0, I).

    Args:
        count: how many: the generator's ``z_dim``.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.mean = self.basis = torch.empty(0)

    def fit(self, chunks: Iterable[Tensor]) -> None:
        """Find them in one pass over uint8 images [N, C, R, R], whatever their number."""
        total, products, count = torch.zeros(()), torch.zeros(()), 0
        held: list[Tensor] = []
        for chunk in chunks:
            small = _small(chunk.float() / 127.5 - 1).double()
            total, count = total + small.sum(0), count + len(small)
            held.append(small)
            if count > small.shape[1]:  # from here on the square of their size is less than what is held
                products = products + sum(each.t() @ each for each in held)
                held = []
        mean = total / count
        if held and not products.ndim:
            _, sizes, rows = torch.linalg.svd(torch.cat(held) - mean, full_matrices=False)
            values, vectors = sizes.square() / (count - 1), rows.t()
        else:
            products = products + sum(each.t() @ each for each in held)
            covariance = (products - count * torch.outer(mean, mean)) / (count - 1)
            values, vectors = (found.flip(-1) for found in torch.linalg.eigh(covariance))
        values, vectors = values[: self.count].float(), vectors[:, : self.count].float()
        # An eigenvector's sign is anybody's choice, and G learns one. Its largest entry cannot settle it: mirrored images make
        # every eigenvector symmetric, so a left and a right entry are largest by rounding alone. A fixed random vector can.
        probe = torch.randn(len(vectors), generator=torch.Generator().manual_seed(0))
        self.mean = mean.float()
        self.basis = vectors * (probe @ vectors).sign() / values.clamp_min(1e-8).sqrt()

    def __call__(self, images: Tensor) -> Tensor:
        """Latents [N, count] of images [N, C, R, R] in [-1, 1]."""
        mean, basis = self.mean.to(images.device), self.basis.to(images.device)
        return (_small(images) - mean) @ basis

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "basis": self.basis}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean, self.basis = state["mean"], state["basis"]


def _small(images: Tensor) -> Tensor:
    side = min(LARGEST, images.shape[-1])
    return F.adaptive_avg_pool2d(images, side).flatten(1)


def dimensions(resolution: int, channels: int = 3) -> int:
    """How many components images of a resolution can have at most."""
    return channels * min(LARGEST, resolution) ** 2


def pyramid_loss(rendered: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference, averaged over a pyramid of halved sizes down to 8x8."""
    losses = []
    while True:
        losses.append((rendered - target).abs().mean())
        if rendered.shape[-1] <= 8:
            return torch.stack(losses).mean()
        rendered, target = F.avg_pool2d(rendered, 2), F.avg_pool2d(target, 2)
