"""Padding rings (PadInv, Bai et al. 2022): what stands around a layer's input instead of zeros.

A ring of a layer of resolution r is [B, C, 4(r+1)]: the top row and the bottom row of r+2 pixels, then the left and the
right column of the r pixels between them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def frame(x: Tensor, ring: Tensor) -> Tensor:
    """``x`` [B, C, r, r] inside ``ring`` [B or 1, C, 4(r+1)]: [B, C, r+2, r+2]."""
    r = x.shape[-1]
    ring = ring.to(x.dtype).expand(len(x), -1, -1)
    top, bottom, left, right = ring.split([r + 2, r + 2, r, r], dim=2)
    middle = torch.cat([left[..., None], x, right[..., None]], dim=3)
    return torch.cat([top[:, :, None], middle, bottom[:, :, None]], dim=2)


def ring_of(framed: Tensor) -> Tensor:
    """The ring [B, C, 4(r+1)] of maps [B, C, r+2, r+2]: the inverse of ``frame``."""
    sides = (framed[:, :, 0], framed[:, :, -1], framed[:, :, 1:-1, 0], framed[:, :, 1:-1, -1])
    return torch.cat(sides, dim=2)


def centre(maps: Tensor, size: int) -> Tensor:
    """The central [B, C, size, size] of maps [B, C, M, M], as PadInv cuts its layers from maps of 34 pixels: the 4x4
    constant, and r+2 pixels for the ring of resolution r."""
    margin, odd = divmod(maps.shape[-1] - size, 2)
    if margin < 0 or odd:
        raise ValueError(f"no central {size}x{size} in maps of {maps.shape[-1]}x{maps.shape[-1]} pixels")
    return maps[:, :, margin : margin + size, margin : margin + size]
