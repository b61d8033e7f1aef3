"""Where latents of W+ are likely, and how far apart their rows may lie: the priors that SAM optimises with (Parmar et al.
2022, section 3.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ganinv.codes.segments import sequential_sum
from ganinv.config import StrictModel
from ganinv.generators.stylegan2 import Generator

SLOPE = 5.0
"""Of the leaky ReLU that undoes the last one of the mapping network (its slope is 1/5): latents are about Gaussian there."""
RIDGE = 1e-8
"""Added to the diagonal of the covariance."""


class LatentPriorConfig(StrictModel):
    """Weights of the two terms, by default the published ones."""

    gaussian: float = Field(1e-8, ge=0)
    """Of the squared Mahalanobis distances of all rows to the mean latent, in the space before the last activation."""
    delta: float = Field(1e-3, ge=0)
    """Of the summed lengths of the differences between each row and the first."""
    samples: int = Field(5000, ge=2)
    """Mapped draws that the covariance is measured from."""


class GaussianPrior:
    """``prior(w [B, num_ws, w_dim]) -> [B]``: how unlikely latents are under a Gaussian of mapped draws.

    Args:
        w: mapped draws [N, w_dim], untruncated.
    """

    def __init__(self, w: Tensor) -> None:
        w = w.double()
        v = F.leaky_relu(w, SLOPE)
        centred = v - v.mean(0)
        covariance = centred.mT @ centred / (len(w) - 1)
        self.mean = F.leaky_relu(w.mean(0), SLOPE)  # of the mean latent, as published: not the mean of v
        self.inverse = torch.linalg.inv(
            covariance + RIDGE * torch.eye(len(covariance), dtype=covariance.dtype).to(w.device)
        )

    @classmethod
    def of(cls, generator: Generator, samples: int = 5000, seed: int = 123) -> GaussianPrior:
        """Of a generator; the same on every call."""
        rng = torch.Generator().manual_seed(seed)
        z = torch.randn(samples, generator.z_dim, generator=rng).to(generator.w_mean)
        with torch.no_grad():
            w = generator.mapping(z, generator.classes_in_turn(samples))
        return cls(w.cpu())

    def __call__(self, w: Tensor) -> Tensor:
        v = F.leaky_relu(w, SLOPE) - self.mean.to(w)
        return sequential_sum((v @ self.inverse.to(w) * v).sum(2))


def row_deltas(w: Tensor) -> Tensor:
    """Summed lengths of the differences between each row and the first: w [B, num_ws, w_dim] to [B]."""
    return sequential_sum((w[:, 1:] - w[:, :1]).norm(dim=2))
