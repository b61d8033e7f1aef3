"""The middle of the picture, for photos of things that have no landmarks: cars, churches, cats."""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image
from pydantic import Field

from ganinv.faces.base import Detector, DetectorConfig, Face


class CentreConfig(DetectorConfig):
    """The largest square in the middle, or a part of it.

    Args:
        share: of the shorter side.
    """

    kind: Literal["centre"] = "centre"
    share: float = Field(1.0, gt=0, le=1)

    def open(self) -> Detector:
        return Centre(self.share)


class Centre(Detector):
    """See :class:`CentreConfig`."""

    name, version = "centre", "1"

    def __init__(self, share: float = 1.0) -> None:
        self._share = share

    def faces(self, photo: Image.Image, image_id: str, every: bool = False) -> list[Face]:
        side = max(round(min(photo.size) * self._share), 1)
        # On whole pixels, so that nothing is blurred: a square begins half a pixel before its first one.
        start = np.array([(photo.width - side) // 2, (photo.height - side) // 2]) - 0.5
        corners = np.array([[0, 0], [0, side], [side, side], [side, 0]], np.float64)
        return [Face(corners + start, np.empty((0, 2)))]

    def cut(self, photo: Image.Image, face: Face, size: int, supersample: int) -> Image.Image:
        left, top = (round(float(v)) for v in face.quad[0] + 0.5)
        side = round(face.side)
        return photo.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)
