"""Bring images to the size that an encoder reads."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def fit(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images [B, C, H, W] to [B, C, *size], as the published encoders resize their inputs: bilinear with antialiasing.

    A size of another aspect (192x256 for cars) takes the central band of rows or columns.
    """
    if images.shape[2:] == size:
        return images
    return F.interpolate(band(images, size), size=size, mode="bilinear", antialias=True, align_corners=False)


def pool(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Renderings [B, C, H, W] to [B, C, *size] by area means, as they come back into ReStyle and HyperStyle."""
    return F.adaptive_avg_pool2d(band(images, size), size)


def band(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The largest central part of the images with the aspect of ``size``."""
    height, width = images.shape[2:]
    rows = min(height, round(width * size[0] / size[1]))
    columns = min(width, round(height * size[1] / size[0]))
    top, left = (height - rows) // 2, (width - columns) // 2
    return images[:, :, top : top + rows, left : left + columns]
