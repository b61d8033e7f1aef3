"""Images at a generator's resolution."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_resolution(image: Image.Image, resolution: int, *, nearest: bool = False) -> Tensor:
    """[3, R, R] float32 in [-1, 1]: the largest centred square, resized by PIL with antialiasing (Lanczos).

    Args:
        image: RGB.
        resolution: R, in pixels.
        nearest: take the nearest pixels, of label maps.
    """
    side = min(image.size)
    square = image
    if image.width != image.height:
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side))
    if side != resolution:
        square = square.resize(
            (resolution, resolution), Image.Resampling.NEAREST if nearest else Image.Resampling.LANCZOS
        )
    values = torch.from_numpy(np.array(square, dtype=np.uint8))
    return values.permute(2, 0, 1).float().div_(127.5).sub_(1)
