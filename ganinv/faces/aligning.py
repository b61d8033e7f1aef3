"""From a photo to aligned crops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from ganinv.errors import DataError
from ganinv.faces.base import Detector, Face, FaceRefused

Which = Literal["largest", "all", "single"]
SMALLEST = 32
"""Pixels of a photo that the side of a crop must have: a face of 16. Of less even a generator of 64 pixels cannot tell a face."""


@dataclass(frozen=True)
class Aligned:
    """A face cut out of a photo.

    Args:
        crop: RGB [size, size]. face: where it was.
        outside: share of the crop that is not part of the photo, and was filled (FFHQ: mirrored and blurred).
        detector, version: who found it.
    """

    crop: Image.Image
    face: Face
    outside: float
    detector: str
    version: str


def align(
    photo: Image.Image,
    detector: Detector,
    *,
    size: int = 256,
    faces: Which = "largest",
    smallest: float = SMALLEST,
    supersample: int = 2,
    image_id: str = "",
) -> list[Aligned]:
    """Faces of a photo as FFHQ frames them, the largest first.

    Args:
        photo: upright, as ``ganinv.data.decode_image`` gives it.
        size: of the crops, in pixels.
        faces: the largest; all; or the single one, and a photo with several is refused.
        smallest: pixels of the photo that the side of a crop has at least.
        supersample: of ``ganinv.data.align_face``.
        image_id: of the photo, for detectors that look things up.

    Raises:
        FaceRefused: with a code that says why there is nothing: ``no_face``, ``too_small``, ``several_faces``, or what the
            detector says.
    """
    photo = photo if photo.mode == "RGB" else photo.convert("RGB")
    found = sorted(detector.faces(photo, image_id, every=faces != "largest"), key=lambda face: -face.side)
    if not found:
        raise FaceRefused(
            "no_face",
            f"{detector.name} found no face in the photo of {photo.width}x{photo.height}; it sees {detector.sees}",
        )
    large = [face for face in found if face.side >= smallest]
    if not large:
        raise FaceRefused(
            "too_small",
            f"the crop of the largest face has {found[0].side:.0f} pixels of the photo a side, at least {smallest:g} are "
            "wanted: take a larger photo of it, or ask for less (--smallest)",
        )
    if faces == "single" and len(large) > 1:
        raise FaceRefused(
            "several_faces",
            f"the photo has {len(large)} faces: --faces largest takes the largest, --faces all each of them",
        )
    return [
        Aligned(
            _cut(detector, photo, face, size, supersample),
            face,
            _outside(face.quad, photo),
            detector.name,
            detector.version,
        )
        for face in (large if faces == "all" else large[:1])
    ]


def _cut(detector: Detector, photo: Image.Image, face: Face, size: int, supersample: int) -> Image.Image:
    try:
        return detector.cut(photo, face, size, supersample)
    except (DataError, ValueError, MemoryError) as error:
        raise FaceRefused("bad_landmarks", f"its landmarks cannot be used: {error}") from error


def _outside(quad: np.ndarray, photo: Image.Image) -> float:
    """Share of the square that lies outside the photo, on a grid of 32 x 32 points."""
    at = (np.arange(32) + 0.5) / 32
    right, down = quad[3] - quad[0], quad[1] - quad[0]
    points = quad[0] + at[:, None, None] * right + at[None, :, None] * down
    inside = ((points >= -0.5) & (points <= np.array(photo.size) - 0.5)).all(-1)
    return float(1 - inside.mean())
