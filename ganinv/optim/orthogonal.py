"""Orthogonalising matrices by multiplications alone: what the Muon optimiser does to its steps."""

from __future__ import annotations

from torch import Tensor

# Quintic Newton-Schulz coefficients (Jordan et al.): all singular values end between about 0.7 and 1.2 in five rounds.
A, B, C = 3.4445, -4.7750, 2.0315


def orthogonalize(matrix: Tensor, rounds: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrices of [..., m, n], roughly: singular values become about one.

    K. Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """
    x = matrix / (matrix.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(rounds):
        gram = x @ x.mT
        x = A * x + (B * gram + C * gram @ gram) @ x
    return x.mT if tall else x
