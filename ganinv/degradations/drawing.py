"""Pictures of what is where: sketches and label maps, in the place of photos (pSp, Richardson et al. 2021, section 4.3)."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from pydantic import Field

from ganinv.degradations.base import Degradation, Degraded, Image8
from ganinv.labels.segmenters import Segmenter, open_segmenter


class Sketch(Degradation):
    """Dark lines on white where brightness changes."""

    kind: Literal["sketch"] = "sketch"
    softness: float = Field(0.01, ge=0)
    """Standard deviation of the blur before, as a share of the longer side: what is finer is not drawn."""
    strength: float = Field(4.0, gt=0)
    """How dark lines are, as a multiple of the change of brightness from one pixel to the next."""

    def apply(self, image: Image8, rng: np.random.Generator) -> Degraded:
        grey = Image.fromarray(_coloured(image)).convert("L")
        soft = grey.filter(ImageFilter.GaussianBlur(self.softness * max(image.shape[:2])))
        values = np.asarray(soft, np.float32) / 255
        down, right = np.gradient(values)
        lines = 1 - np.clip(self.strength * np.hypot(down, right), 0, 1)
        return Degraded(_in_all_channels((lines * 255).round().astype(np.uint8), image))


class Labels(Degradation):
    """The regions that a segmenter finds, as grey values: 0 is its first."""

    kind: Literal["labels"] = "labels"
    segmenter: str
    """A name of ``configs/segmenters``, or a YAML file."""

    def apply(self, image: Image8, rng: np.random.Generator) -> Degraded:
        pixels = torch.from_numpy(_coloured(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            regions = _segmenter(self.segmenter)(pixels)[0]
        return Degraded(_in_all_channels(regions.numpy().astype(np.uint8), image))


@lru_cache(maxsize=2)
def _segmenter(name: str) -> Segmenter:
    return open_segmenter(name)


def _coloured(image: Image8) -> Image8:
    """Red, green and blue of an image of one, three or four channels."""
    return np.ascontiguousarray(image[:, :, :3] if image.shape[2] >= 3 else np.repeat(image[:, :, :1], 3, axis=2))


def _in_all_channels(drawn: NDArray[np.uint8], image: Image8) -> Image8:
    """In every channel of colour; opacity stays."""
    out = image.copy()
    out[:, :, :3] = drawn[:, :, None]
    return out
