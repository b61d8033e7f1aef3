"""Orthogonalising matrices by multiplications alone: what the Muon optimiser does to its steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Quintic Newton-Schulz coefficients (Jordan et al.): all singular values end between about 0.7 and 1.2 in five rounds.
A, B, C = 3.4445, -4.7750, 2.0315


def orthogonalize(matrices: Sequence[Tensor], rounds: int = 5) -> list[Tensor]:
    """The nearest semi-orthogonal matrix of each [..., m, n], roughly: singular values become about one.

    K. Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks". Their rounds are
    x <- (A + B g + C g g) x with g = x x^T. All of a round's factors are polynomials of the first g, so the rounds are made on
    g, which is as small as the shorter side, for all matrices with equal shorter sides at once, and x is multiplied once.
    """
    wide = [m.mT if m.shape[-2] > m.shape[-1] else m for m in matrices]
    wide = [x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7) for x in wide]
    grams = [(x @ x.mT).flatten(0, -3) if x.ndim > 2 else (x @ x.mT)[None] for x in wide]
    factors: list[Tensor] = list(grams)
    for side in {g.shape[-1] for g in grams}:
        mine = [i for i, g in enumerate(grams) if g.shape[-1] == side]
        made = _factor(torch.cat([grams[i] for i in mine]), rounds).split([len(grams[i]) for i in mine])
        for i, factor in zip(mine, made, strict=True):
            factors[i] = factor
    out = [f.view(*x.shape[:-1], x.shape[-2]) @ x for f, x in zip(factors, wide, strict=True)]
    return [x.mT if m.shape[-2] > m.shape[-1] else x for x, m in zip(out, matrices, strict=True)]


def _factor(gram: Tensor, rounds: int) -> Tensor:
    """What x is multiplied by, from x x^T [n, k, k]."""
    factor = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    for _ in range(rounds):
        squared = gram @ gram
        this = B * gram + C * squared
        this.diagonal(dim1=-2, dim2=-1).add_(A)
        factor = this @ factor
        gram = this @ gram @ this
    return factor
