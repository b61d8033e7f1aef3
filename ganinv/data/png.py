"""Images as PNG."""

from __future__ import annotations

import io

import torch
from PIL import Image
from torch import Tensor

from ganinv.generators.channels import as_rgb


def png_bytes(image: Tensor) -> bytes:
    """One image [C, R, R] in [-1, 1] as PNG, in colours as people see it."""
    image = as_rgb(image[None])[0]
    array = ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()
