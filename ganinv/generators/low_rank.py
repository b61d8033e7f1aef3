"""Per-sample low-rank weight offsets, applied without forming the weights that they make.

A layer is linear in its weight: conv(x, W + L R) = conv(x, W) + L conv(x, R). The first part is one convolution for the
whole batch, whose weight needs no gradient when it is frozen. The second has r channels per sample (low-rank adaptation,
Hu et al. 2022, in a modulated convolution).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.codes.parts import LowRank, map_tensors
from ganinv.generators.pointwise import pointwise

SHARE = 1 / 3


def pays(offset: LowRank, shape: Sequence[int]) -> bool:
    """Whether a weight's offset is better left low-rank than added to the weight.

    Args:
        shape: of the weight, [O, I] of an affine or [O, I, k, k] of a convolution.

    An affine sees one vector, and its factors always cost less than their product. An offset that the batch shares is one
    sum, and every sample then costs what the plain layer does. A convolution with a weight for each sample costs three of
    its size, forward and backward; with a low-rank offset two, and three times the share r (I k^2 + O) / (O I k^2) of
    one: less for shares below 1/3. Measured, it is faster up to about there (``benchmarks/generator/synthesis.py``). Layers of
    few channels are above it, and toRGB at any rank.
    """
    left, right = offset.left, offset.right
    if len(shape) == 2:
        return True
    if len(left) == len(right) == 1:
        return False
    rows, rank = left.shape[1:]
    columns = right.shape[2]
    return rank * (rows + columns) <= SHARE * rows * columns


def cast(offset: LowRank, dtype: torch.dtype) -> LowRank:
    """The offset in the dtype of a layer's features.

    When that is a smaller one, each row of ``right`` is scaled to about unit norm and its column of ``left`` takes the
    scale: what ``right`` makes of features is then of their magnitude and stays in float16.
    """
    if dtype == offset.right.dtype:
        return offset
    columns = offset.right.shape[2]
    largest = offset.right.detach().abs().amax(dim=2, keepdim=True) * math.sqrt(columns)
    largest = largest.clamp(min=torch.finfo(largest.dtype).tiny)  # rows of zeros fill up ranks in mixed batches
    scaled = LowRank(offset.left * largest.transpose(1, 2), offset.right / largest)
    return map_tensors(scaled, lambda t: t.to(dtype))


def linear(x: Tensor, offset: LowRank) -> Tensor:
    """What the offset adds to ``F.linear``: [B, I] to [B, O]."""
    return (offset.left @ (offset.right @ x[:, :, None]))[:, :, 0]


def add_conv(y: Tensor, x: Tensor, offset: LowRank, kernel: int, padding: int = 0, up: bool = False) -> Tensor:
    """``y`` plus the convolution of ``x`` with the offset.

    Args:
        y: [B, O, H', W'], the convolution of ``x`` with the shared weight.
        x: [B, I, H, W].
        padding: zeros around ``x``; not with ``up``.
        up: transposed convolution of stride 2, H' = 2H + kernel - 2.
    """
    # [B, r, I, k*k] to [B, r*k*k, I]. A convolution's taps add up its surroundings; fold spreads: its taps are mirrored.
    taps = offset.right.unflatten(2, (x.shape[1], kernel * kernel))
    taps = (taps if up else taps.flip(3)).transpose(2, 3).flatten(1, 2)
    # Every tap is a matrix product, and only r channels are moved. Grouped convolutions of so few channels are slow.
    inner = pointwise(x, taps)
    if kernel > 1:
        stride, padding = (2, 0) if up else (1, kernel - 1 - padding)
        inner = F.fold(inner.flatten(2), y.shape[2:], kernel, padding=padding, stride=stride)
    return pointwise(inner, offset.left, onto=y)


def added_power(weight: Tensor, offset: LowRank, style: Tensor) -> Tensor:
    """What the offset adds to the squared norms of the modulated weight's rows: |s(W + LR)|^2 - |sW|^2, [B, O].

    Exact, from the products of sW with sR and of sR with itself: 2 <sW, sLR> + |sLR|^2.

    Args:
        weight: [O, I, k, k]. style: [B, I].
    """
    left, right = offset.left, offset.right
    scaled = right * style.square().repeat_interleave(weight[0, 0].numel(), dim=1)[:, None]  # s^2 R, [B, r, I*k*k]
    cross = weight.flatten(1) @ scaled.flatten(0, 1).t()  # [O, B*r]
    cross = cross.unflatten(1, scaled.shape[:2]).transpose(0, 1)
    gram = scaled @ right.transpose(1, 2)
    return (left * (2 * cross + left @ gram)).sum(dim=2)
