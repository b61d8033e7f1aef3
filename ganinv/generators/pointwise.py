"""1x1 convolutions with a matrix for each sample, as matrix products."""

from __future__ import annotations

import torch
from torch import Tensor


def pointwise(x: Tensor, matrices: Tensor, onto: Tensor | None = None) -> Tensor:
    """A matrix at every pixel, [B, O, H, W]; several times faster than a convolution of few channels.

    Result and gradients have the memory layout of ``onto`` (of ``x`` without it), channels first or last: features that
    change their layout from layer to layer are copied each time.

    Args:
        x: [B, I, H, W].
        matrices: [B or 1, O, I].
        onto: [B, O, H, W], added.
    """
    matrices = matrices.expand(len(x), -1, -1)
    channels_last = (x if onto is None else onto).stride(1) == 1
    left, right = (x.flatten(2).mT, matrices.mT) if channels_last else (matrices, x.flatten(2))
    if onto is None:
        y = torch.bmm(left, right)
    else:
        onto = onto.flatten(2)
        y = torch.baddbmm(onto.mT if channels_last else onto, left, right)
    return (y.mT if channels_last else y).unflatten(2, x.shape[2:])
