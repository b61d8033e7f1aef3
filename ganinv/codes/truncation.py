"""Weight offsets as products of two thin matrices: truncated singular value decomposition, tensor by tensor.

A tuned generator is stored as its difference to the shared one. As matrices [O, I*k*k], the differences of low-rank tuning
have their rank exactly; those of dense tuning are cut to the smallest rank that keeps the relative Frobenius error below a
bound (Eckart and Young 1936: no other matrix of that rank is nearer).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ganinv.codes.code import Code, Delta, HeadCode, LowRank


@dataclass(frozen=True)
class Compressed:
    """How one weight offset was compressed.

    Args:
        name: as in ``Code``: ``weights.convs.3.weight``, ``scales.convs.1.weight``.
        rank: of the offset from now on; None when it stays dense, because factors would be larger.
        error: |offset - left @ right| / |offset| (Frobenius), the worst of the batch; 0 when nothing was changed.
        numbers, dense_numbers: floats per image, as kept and as a dense tensor.
    """

    name: str
    rank: int | None
    error: float
    numbers: int
    dense_numbers: int


def compress(code: Code, *, error: float | None = None, rank: int | None = None) -> tuple[Code, list[Compressed]]:
    """Make the weight offsets (``weights`` and ``scales``) of a code low-rank. Returns the code and what that did to each offset.

    Args:
        error: bound of the relative Frobenius error of each tensor of each image: the smallest rank that keeps it.
        rank: no tensor gets more than this. With both, a tensor whose error would need more gets ``rank`` and a larger
            error, which the list says.

    Offsets whose factors would not be smaller, those without columns (biases), and codes of hypernetworks stay as they
    are. Offsets that are low-rank already are cut further where the bound allows it. A batch gets one rank per tensor,
    the largest that one of its images needs.

    Raises:
        ValueError: neither ``error`` nor ``rank``, or one that is out of range.
    """
    if error is None and rank is None:
        raise ValueError("compress needs a bound: error (such as 0.02), rank (such as 8), or both")
    if error is not None and not 0 <= error < 1:
        raise ValueError(f"error is relative to the offset, 0 <= error < 1, got {error}")
    if rank is not None and rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}")
    reports: list[Compressed] = []

    def all_of(field: str, deltas: Mapping[str, Delta] | None) -> Mapping[str, Delta] | None:
        out: dict[str, Delta] = {}
        for name, delta in (deltas or {}).items():
            out[name], report = _compress_one(f"{field}.{name}", delta, error or 0.0, rank)
            if report is not None:
                reports.append(report)
        return out or None

    code = replace(code, weights=all_of("weights", code.weights), scales=all_of("scales", code.scales))
    return code, reports


def _compress_one(name: str, delta: Delta, error: float, rank: int | None) -> tuple[Delta, Compressed | None]:
    if isinstance(delta, HeadCode):
        return delta, None
    if isinstance(delta, LowRank):
        matrix, now = delta.left @ delta.right, delta.left.shape[2]
    elif delta.ndim > 2:
        matrix, now = delta.flatten(2), None
    else:
        return delta, Compressed(name, None, 0.0, delta[0].numel(), delta[0].numel())
    rows, columns = matrix.shape[1:]
    dense = rows * columns
    size = dense if now is None else now * (rows + columns)
    factors, reached = truncated(matrix, error, rank)
    found = factors.left.shape[2]
    if found * (rows + columns) >= size:
        return delta, Compressed(name, now, 0.0, size, dense)
    return factors, Compressed(name, found, reached, found * (rows + columns), dense)


def truncated(matrix: Tensor, error: float, rank: int | None = None) -> tuple[LowRank, float]:
    """Matrices [B, O, N] as factors of one rank, at most ``rank``, and the worst relative Frobenius error of the batch.

    The singular vectors of the shorter side are the eigenvectors of its Gram matrix: in float64 that is as good as a
    singular value decomposition in float32, and a fraction of its time. Both factors get the square root of the singular
    values, so that neither leaves the range of float16.
    """
    exact = matrix.double()
    wide = exact.shape[1] <= exact.shape[2]
    gram = exact @ exact.mT if wide else exact.mT @ exact
    energy, vectors = torch.linalg.eigh(gram)  # ascending
    energy, vectors = energy.flip(1).clamp_min(0), vectors.flip(2)
    # Squared relative error left by each rank 0, 1, ..., of each image.
    total = energy.sum(1, keepdim=True)
    tail = torch.cat([total, energy.flip(1).cumsum(1).flip(1)[:, 1:], torch.zeros_like(total)], dim=1)
    left_over = torch.where(total > 0, tail / total.clamp_min(torch.finfo(total.dtype).tiny), 0.0)
    enough = (left_over <= max(error, _EXACT) ** 2).double().argmax(1)
    found = max(1, int(enough.max()))
    found = found if rank is None else min(found, rank)
    basis = vectors[:, :, :found]
    root = energy[:, :found].clamp_min(torch.finfo(torch.float32).tiny).pow(0.25)[:, None]  # of the singular values
    if wide:
        left, right = basis * root, (basis / root).mT @ exact
    else:
        left, right = exact @ (basis / root), (basis * root).mT
    worst = math.sqrt(float(left_over[:, found].max()))
    return LowRank(left.to(matrix.dtype), right.to(matrix.dtype)), worst


_EXACT = 1e-6
"""A relative error near the resolution of float32 is rounding, not an error: an exact product has its rank."""
