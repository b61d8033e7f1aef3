"""What the examples read and write: the demo's two portraits, and strips of pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganinv.data import open_dataset
from ganinv.data.demo import demo_dataset

PORTRAITS = ("portrait-astronaut", "portrait-grace-hopper")
SCALE = 4


def portraits(resolution: int) -> dict[str, Tensor]:
    """The two portraits of the demo by name, [1, 3, R, R] each."""
    with tempfile.TemporaryDirectory() as folder:
        images = open_dataset(str(demo_dataset(folder))).load(PORTRAITS, resolution).images
    return {name: images[i : i + 1] for i, name in enumerate(PORTRAITS)}


def strip(images: Sequence[Tensor]) -> np.ndarray:
    """Images [1, 3, R, R] in [-1, 1] side by side, enlarged: uint8 [H, W, 3]."""
    pixels = ((torch.cat([image[0].clamp(-1, 1) for image in images], dim=2) + 1) * 127.5).round().to(torch.uint8)
    return pixels.permute(1, 2, 0).numpy().repeat(SCALE, axis=0).repeat(SCALE, axis=1)


def save(path: Path, images: Sequence[Tensor]) -> None:
    """Write a strip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(strip(images)).save(path)
