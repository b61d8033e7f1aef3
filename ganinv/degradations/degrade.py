"""``degrade`` of a recipe's data: which images of a batch lose quality, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ganinv.config import StrictModel
from ganinv.degradations.base import Degradation, Image8
from ganinv.degradations.registry import AnyDegradation


class DegradeConfig(StrictModel):
    """What is taken away from the images that an inverter sees; what it is to reconstruct stays as it was."""

    choose: tuple[AnyDegradation | tuple[AnyDegradation, ...], ...] = Field(min_length=1)
    """One is drawn for each image, all alike often. A list in place of one is applied one after the other."""
    share: float = Field(1.0, gt=0, le=1)
    """Share of the images of a batch, rounded up, real and generated alike; the others stay clean."""
    unpaired: bool = False
    """Two domains: degraded images come from one half of the data set, clean ones from the other, so that no degraded image is
    ever seen clean (UDA-Inversion)."""

    def count(self, images: int) -> int:
        """How many images of a batch of this size are degraded."""
        return min(images, int(np.ceil(images * self.share - 1e-9)))


@dataclass(frozen=True)
class DegradedImages:
    """Images [B, C, R, R] in [-1, 1], and what is gone: [B, 1, R, R], 1 in holes."""

    images: Tensor
    holes: Tensor


def degrade(images: Tensor, cfg: DegradeConfig, seeds: Sequence[int], positions: Sequence[int]) -> DegradedImages:
    """Degrade some of the images [B, C, R, R] in [-1, 1]: each depends on itself and its seed alone.

    Args:
        seeds: one for each of ``positions``, which are places in the batch.
    """
    out = images.clone()
    holes = torch.zeros(len(images), 1, *images.shape[2:], device=images.device)
    for position, seed in zip(positions, seeds, strict=True):
        rng = np.random.default_rng(seed)
        drawn = cfg.choose[int(rng.integers(len(cfg.choose)))]
        pixels = to_pixels(images[position])
        for one in (drawn,) if isinstance(drawn, Degradation) else drawn:
            done = one.apply(pixels, rng)
            pixels = done.image
            if done.hole is not None:
                holes[position] = torch.maximum(holes[position], torch.from_numpy(done.hole).to(holes))
        out[position] = to_image(pixels, out)
    return DegradedImages(out, holes)


def to_pixels(image: Tensor) -> Image8:
    """An image [C, H, W] in [-1, 1] as uint8 [H, W, C]."""
    array: Image8 = ((image.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    return array


def to_image(pixels: Image8, like: Tensor) -> Tensor:
    """uint8 [H, W, C] as an image [C, H, W] in [-1, 1], with the dtype and device of ``like``."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).to(like) / 127.5 - 1
