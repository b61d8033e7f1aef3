"""Bring images to the size that an encoder reads."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.errors import DataError


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


def with_holes(images: Tensor, holes: Tensor | None) -> Tensor:
    """Images [B, C, H, W] as an inverter that sees holes reads them: [B, C + 1, H, W], zero where pixels are missing, and where
    that is as the last channel.

    Args:
        holes: [B or 1, 1, h, w], 1 where pixels are missing; of another size, a pixel is missing that is in part. None: nothing.
    """
    if holes is None:
        return torch.cat([images, torch.zeros_like(images[:, :1])], dim=1)
    if holes.shape[2:] != images.shape[2:]:
        holes = (F.interpolate(holes, size=images.shape[2:], mode="bilinear", antialias=True) > 1e-3).to(images)
    holes = holes.expand(len(images), -1, -1, -1)
    return torch.cat([images * (1 - holes), holes], dim=1)


def as_sketch(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures of sketches [B, C, H, W] in [-1, 1] as one channel [B, 1, *size] in [0, 1], as pSp's encoder reads them."""
    return (fit(images, size).mean(1, keepdim=True) + 1) / 2


def as_labels(images: Tensor, classes: int, size: tuple[int, int]) -> Tensor:
    """Pictures of label maps [B, C, H, W], whose grey value (of 0 to 255) is the class, as a channel for each class
    [B, classes, *size]. They are resized by their nearest pixels: between two classes there is no third.

    Raises:
        DataError: a grey value that is not a class.
    """
    values = ((images[:, :1] + 1) * 127.5).round()
    if images.shape[2:] != size:
        values = F.interpolate(band(values, size), size=size, mode="nearest")
    labels = values[:, 0].long()
    if int(labels.max()) >= classes or int(labels.min()) < 0:
        raise DataError(
            f"a label map has the value {int(labels.max())}, expected the classes 0 to {classes - 1}: give grey PNG files whose "
            "values are the classes"
        )
    return F.one_hot(labels, classes).permute(0, 3, 1, 2).to(images.dtype)
