"""Masks of regions of images: floats in [0, 1], [B or 1, 1, R, R]."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def box(resolution: int, top: float, left: float, bottom: float, right: float) -> Tensor:
    """1 inside a rectangle, 0 outside: [1, 1, R, R]. The sides are shares of the image's in [0, 1], rounded to pixels."""
    rows = slice(round(top * resolution), round(bottom * resolution))
    columns = slice(round(left * resolution), round(right * resolution))
    mask = torch.zeros(1, 1, resolution, resolution)
    mask[:, :, rows, columns] = 1
    return mask


def blurred(mask: Tensor, sigma: float | None = None) -> Tensor:
    """A mask with soft edges: a Gaussian of ``sigma`` pixels (R/128 by default), the rim repeated outwards."""
    sigma = mask.shape[-1] / 128 if sigma is None else sigma
    if sigma <= 0:
        return mask
    reach = max(1, math.ceil(3 * sigma))
    offsets = torch.arange(-reach, reach + 1, dtype=mask.dtype, device=mask.device)
    kernel = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum())[None, None]
    padded = F.pad(mask, (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel[..., None]), kernel[:, :, None])


def shrunk(mask: Tensor, resolution: int) -> Tensor:
    """A mask at the resolution of a layer: the mean over the pixels that each position covers."""
    return F.adaptive_avg_pool2d(mask, resolution)
