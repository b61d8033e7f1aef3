"""A sheet of samples: what a generator makes, at a glance."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.generators.stylegan2 import Generator

_PIXELS = 2**18  # in one pass: 64 images of 64x64, or one of 512x512 or more


def sample_grid(
    generator: Generator,
    rows: int = 6,
    columns: int = 10,
    psi: float = 1.0,
    seed: int = 7,
    largest: int | None = None,
) -> Image.Image:
    """A grid of samples, the same latents each time. Those of a conditional generator go through its classes in turn.

    Args:
        psi: truncation towards ``w_mean``.
        largest: make images smaller than this many pixels a side, if they are not.
    """
    count, size = rows * columns, generator.resolution
    z = torch.randn(count, generator.z_dim, generator=torch.Generator().manual_seed(seed))
    c = torch.eye(generator.c_dim)[torch.arange(count) % generator.c_dim] if generator.c_dim else None
    with torch.inference_mode():
        w = generator.map(z.to(generator.device), None if c is None else c.to(generator.device), truncation_psi=psi)
    step = max(1, _PIXELS // size**2)
    tiles = np.concatenate([_tiles(generator.render(Code(w=w[i : i + step])), largest) for i in range(0, count, step)])
    size = tiles.shape[1]
    sheet = tiles.reshape(rows, columns, size, size, 3).swapaxes(1, 2).reshape(rows * size, columns * size, 3)
    return Image.fromarray(sheet)


def _tiles(images: Tensor, largest: int | None) -> np.ndarray:
    """Images [B, C, R, R] in [-1, 1] as RGB uint8 [B, R', R', 3]."""
    rgb = images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
    if largest is not None and rgb.shape[-1] > largest:
        rgb = torch.nn.functional.adaptive_avg_pool2d(rgb, largest)
    return ((rgb.clamp(-1, 1) + 1) * 127.5).round().byte().cpu().permute(0, 2, 3, 1).numpy()
