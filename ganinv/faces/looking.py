"""How a detector of upright faces looks at a photo: at some sizes, and turned, until it sees something."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image
from pydantic import Field

from ganinv.data.align import Point, face_quad, quad_side
from ganinv.errors import DataError
from ganinv.faces.base import Detector, DetectorConfig, Face

TURNS = (0, 30, -30, 90, -90, 180)
"""Degrees by which a photo is turned in search of a face, as long as none is found."""
SURE = 0.3
"""Above the threshold, a score at which the search ends. What is seen in a turned photo, or beside such a face, must have it:
who looks more often sees more faces that are none."""
TILTED = 12.0
"""Degrees from which a face is looked at once more, upright: who knows upright faces is less exact with others."""
MOST_ENLARGED = 8.0
FINE = 1600
"""Pixels of the longer side at which landmarks are found, at most."""

LEAST_CLOSE, MOST_CLOSE = 240, 640
"""Of a tilted face that is looked at again."""

Moved = Callable[[np.ndarray], np.ndarray]
"""Points [K, 2] in other pixels."""


class LookConfig(DetectorConfig):
    """How a photo is looked at.

    Args:
        sides: lengths of the longer side, in pixels, that the photo is brought to, one after the other until a face is seen.
        turned: look at the photo turned as well, where no upright face is found.
        threshold: the least score.
    """

    sides: tuple[int, ...] = Field((640, 1600), min_length=1)
    turned: bool = True
    threshold: float = 0.0


class LookingDetector(Detector):
    """Finds faces in what it is shown; see :class:`LookConfig`."""

    def __init__(self, cfg: LookConfig) -> None:
        self._cfg = cfg

    @abstractmethod
    def find(self, seen: np.ndarray, fine: np.ndarray, ratio: float, least: float) -> list[tuple[np.ndarray, float]]:
        """Upright faces in ``seen``, uint8 [H, W, 3]: landmarks [K, 2] in pixels of ``fine``, which is the same picture ``ratio``
        times as large, and scores of at least ``least``."""

    @abstractmethod
    def four(self, landmarks: np.ndarray) -> Sequence[Point]:
        """Left eye, right eye, left and right corner of the mouth, as the viewer sees them."""

    def faces(self, photo: Image.Image, image_id: str, every: bool = False) -> list[Face]:
        sides = self._cfg.sides[-1:] if every else self._cfg.sides
        scales = list(dict.fromkeys(min(side / max(photo.size), MOST_ENLARGED) for side in sides))
        weak: list[Face] = []
        sure = self._cfg.threshold + SURE
        for turn in TURNS if self._cfg.turned else TURNS[:1]:
            for scale in scales:
                found = self._looked(photo, scale, turn, sure if turn else self._cfg.threshold)
                if certain := [face for face in found if face.score >= sure]:
                    return [self._upright(photo, face) for face in certain]
                weak = weak or found
        return [self._upright(photo, face) for face in weak]

    def _looked(self, photo: Image.Image, scale: float, turn: float, least: float) -> list[Face]:
        seen, to_photo = _turned(photo, scale, turn)
        fine, fine_scale = seen, max(scale, min(1.0, FINE / max(photo.size)))
        if fine_scale != scale:
            fine, to_photo = _turned(photo, fine_scale, turn)
        return self._found(seen, fine, to_photo, least)

    def _found(self, seen: Image.Image, fine: Image.Image, to_photo: Moved, least: float) -> list[Face]:
        faces = []
        for points, score in self.find(np.asarray(seen), np.asarray(fine), fine.width / seen.width, least):
            try:
                quad = face_quad(*self.four(points))
            except DataError:  # points that are not a face: nothing was seen
                continue
            faces.append(Face(to_photo(quad), to_photo(points), score))
        return faces

    def _upright(self, photo: Image.Image, face: Face) -> Face:
        """A tilted face looked at once more: what is around it, turned by as much as it is."""
        if abs(face.turned) < TILTED:
            return face
        reach = (face.quad - face.quad.mean(0)) * 1.5 + face.quad.mean(0)
        side = min(max(round(quad_side(reach)), LEAST_CLOSE), MOST_CLOSE)
        corners = tuple((reach + 0.5).ravel().tolist())
        close = photo.transform((side, side), Image.Transform.QUAD, corners, Image.Resampling.BILINEAR)
        right, down = (reach[3] - reach[0]) / side, (reach[1] - reach[0]) / side

        def to_photo(points: np.ndarray) -> np.ndarray:
            moved: np.ndarray = reach[0] + (points[:, :1] + 0.5) * right + (points[:, 1:] + 0.5) * down
            return moved

        again = self._found(close, close, to_photo, self._cfg.threshold)
        near = [other for other in again if np.hypot(*(other.quad.mean(0) - face.quad.mean(0))) < face.side / 4]
        return max(near, key=lambda other: other.score, default=face)


def _turned(photo: Image.Image, scale: float, turn: float) -> tuple[Image.Image, Moved]:
    """The photo ``scale`` times as large, turned by some degrees counter-clockwise; and from pixels of that to the photo's."""
    size = max(round(photo.width * scale), 1), max(round(photo.height * scale), 1)
    seen = photo if size == photo.size else photo.resize(size, Image.Resampling.BILINEAR)
    if turn:
        seen = seen.rotate(turn, Image.Resampling.BILINEAR, expand=True)
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    back = np.array([[cos, -sin], [sin, cos]])
    # Both are turned about their middle; the centre of pixel 0 lies half a pixel inside the picture.
    middle, resized, factor = np.array(seen.size) / 2, np.array(size), np.array(photo.size) / size

    def to_photo(points: np.ndarray) -> np.ndarray:
        moved: np.ndarray = ((points + 0.5 - middle) @ back.T + resized / 2) * factor - 0.5
        return moved

    return seen, to_photo
