"""A layer of rain, as UDA-Inversion (Xing et al. 2022) lays it over its target domain with imgaug's ``RainLayer``."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ganinv.degradations.base import Degradation, Degraded, Image8, Span

GATE = 8  # side of the coarse grid that makes rain uneven
SUMMED = 1000  # values of the layer, over its three equal channels, that its colour is drawn from


class Rain(Degradation):
    """Drops are salt on a slightly coarser grid, thinned unevenly, drawn out by motion, and laid over the image."""

    kind: Literal["rain"] = "rain"
    density: Span = (0.03, 0.14)
    """Share of the grid's cells with a drop."""
    uniformity: Span = (0.8, 1.0)
    """1 is equal rain everywhere."""
    drop_size: Span = (0.01, 0.02)
    """How much coarser the grid of drops is than the image."""
    angle: Span = (-15.0, 15.0)
    """Of the streaks, in degrees from the vertical."""
    speed: Span = (0.05, 0.20)
    """Length of the streaks, as a share of the image's longer side."""

    def apply(self, image: Image8, rng: np.random.Generator) -> Degraded:
        height, width = image.shape[:2]
        kept = float(np.clip(1 - rng.uniform(*self.drop_size), 0.001, 1))
        drops = salt(max(1, int(height * kept)), max(1, int(width * kept)), rng.uniform(*self.density), rng)
        drops = thinned(drops, rng.uniform(*self.uniformity), rng)
        streaks = drawn_out(enlarged(drops, height, width), rng.uniform(*self.speed), rng.uniform(*self.angle))
        return Degraded(laid_over(image, streaks))


def salt(height: int, width: int, density: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Drops [height, width]: cells are hit with probability ``density``, and are then at least half bright."""
    hit = rng.random((height, width)) < density
    bright = 0.5 + np.abs(rng.beta(0.5, 0.5, (height, width)) - 0.5)
    return np.where(hit, np.clip(255 * bright, 0, 255), 0).astype(np.uint8)


def thinned(drops: NDArray[np.uint8], uniformity: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Drops times a smooth random factor, which is nearer to one the larger ``uniformity`` is."""
    coarse = rng.beta(1.0, max(1 - uniformity, 1e-4), (GATE, GATE)).astype(np.float32)
    factor = _bicubic(coarse, *drops.shape).clip(0, 1)
    return (drops * factor).clip(0, 255).astype(np.uint8)


def enlarged(drops: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Drops at the image's size, by cubic interpolation."""
    if drops.shape == (height, width):
        return drops
    return np.rint(_bicubic(drops.astype(np.float32), height, width)).clip(0, 255).astype(np.uint8)


def drawn_out(drops: NDArray[np.uint8], speed: float, angle: float) -> NDArray[np.uint8]:
    """Drops blurred along a line: the longer side times ``speed`` long, ``angle`` degrees from the vertical."""
    from scipy.signal import fftconvolve  # a fifth of a second that a process without rain need not spend

    length = int(speed * max(drops.shape))
    if length <= 1:
        return drops
    length = max(length, 3) + (1 - max(length, 3) % 2)
    kernel, half = streak(length, angle), length // 2
    padded = np.pad(drops.astype(np.float64), half, mode="reflect")
    blurred = fftconvolve(padded, kernel[::-1, ::-1], mode="valid")
    return np.rint(blurred).clip(0, 255).astype(np.uint8)


def streak(length: int, angle: float) -> NDArray[np.float64]:
    """The kernel [length, length] of a streak that fades downwards; its sum is 1."""
    line = np.zeros((length, length), np.float32)
    line[:, length // 2] = np.linspace(1.0, 0.0, length)
    line = np.floor(line * 255)
    turn = math.radians(angle)
    theta = torch.tensor([[[math.cos(turn), math.sin(turn), 0.0], [-math.sin(turn), math.cos(turn), 0.0]]])
    grid = F.affine_grid(theta, [1, 1, length, length], align_corners=True)
    turned = F.grid_sample(torch.from_numpy(line)[None, None], grid, mode="bilinear", align_corners=True)
    kernel = np.rint(turned[0, 0].numpy()).astype(np.float64)
    return kernel / kernel.sum()


def laid_over(image: Image8, streaks: NDArray[np.uint8]) -> Image8:
    """The image [H, W, C] behind a layer of streaks [H, W]. Their grey depends on the layer: from 110 to 240."""
    start = streaks.reshape(-1)[: -(-SUMMED // 3)].astype(np.int64)
    total = int(np.repeat(start, 3)[:SUMMED].sum()) or 1
    grey = 110 + 130 % total
    cover = (1.3 * streaks.astype(np.float64) / 255).clip(0, 1)[:, :, None]
    return ((1 - cover) * image + cover * grey).clip(0, 255).astype(np.uint8)


def _bicubic(values: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    x = torch.from_numpy(np.ascontiguousarray(values))[None, None]
    grown = F.interpolate(x, size=(height, width), mode="bicubic", align_corners=False)
    out: NDArray[np.float32] = grown[0, 0].numpy()
    return out
