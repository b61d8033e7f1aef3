"""How images become a network's input. Every setting that moves a score is set here and recorded with it."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ganinv.config import StrictModel

Resize = Literal["block", "bilinear", "bicubic", "align-corners"]


class InputSpec(StrictModel):
    """Size, resize kernel and normalisation of a network's input.

    ``resize``: ``block`` averages blocks where the side is a multiple of ``size`` and is antialiased bilinear elsewhere;
    ``bilinear`` and ``bicubic`` are antialiased, as Pillow's; ``align-corners`` is plain bilinear from corner to corner.
    One kernel per labeller: the kernel moves the tails of the scores.
    """

    size: int = Field(ge=1)
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Subtracted from pixels in [0, 1]. The default, with ``std``, feeds images in [-1, 1]."""
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    resize: Resize = "block"

    def prepare(self, images: Tensor) -> Tensor:
        """Images [B, 3, R, R] in [-1, 1] to the network's input [B, 3, size, size]."""
        resized = resize_images(images, self.size, self.resize)
        if self.mean == self.std == (0.5, 0.5, 0.5):
            return resized
        # ((x + 1) / 2 - mean) / std, as one multiplication and one addition.
        gain = 0.5 / torch.tensor(self.std, dtype=images.dtype, device=images.device)[:, None, None]
        shift = 2 * torch.tensor(self.mean, dtype=images.dtype, device=images.device)[:, None, None] - 1
        return (resized - shift) * gain


def resize_images(images: Tensor, size: int, kernel: Resize = "block") -> Tensor:
    """Images [B, C, R, R] at ``size``, by the kernel of that name (see ``InputSpec``)."""
    if images.shape[2] == images.shape[3] == size:
        return images
    if kernel == "block" and images.shape[2] == images.shape[3] and images.shape[2] % size == 0:
        return F.avg_pool2d(images, images.shape[2] // size)
    if kernel == "align-corners":
        return F.interpolate(images, size=(size, size), mode="bilinear", align_corners=True)
    mode = "bicubic" if kernel == "bicubic" else "bilinear"
    return F.interpolate(images, size=(size, size), mode=mode, align_corners=False, antialias=True)
