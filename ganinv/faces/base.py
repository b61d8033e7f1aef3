"""What a detector finds, and what it is to be one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ganinv.config import StrictModel
from ganinv.data.align import cut_quad, quad_side
from ganinv.errors import ImageError


@dataclass(frozen=True)
class Face:
    """A face, or what else is to be cut out, in pixels (x, y) of an upright photo; the centres of pixels are whole numbers.

    Args:
        quad: corners [4, 2] of the square to cut out: top left, bottom left, bottom right, top right, as the face has them.
        landmarks: [K, 2], in the detector's order; [0, 2] where it finds none.
        score: the detector's own; NaN if it has none.
    """

    quad: np.ndarray
    landmarks: np.ndarray
    score: float = float("nan")

    @property
    def side(self) -> float:
        """Of the square, in pixels of the photo."""
        return quad_side(self.quad)

    @property
    def turned(self) -> float:
        """By how many degrees the face is turned, clockwise: 0 is upright."""
        x, y = self.quad[3] - self.quad[0]
        return float(np.degrees(np.arctan2(y, x)))


class FaceRefused(ImageError):
    """A photo from which no face is cut out.

    ``code`` is ``no_face``, ``too_small``, ``several_faces``, ``bad_landmarks`` or ``no_landmarks``.
    """


class Detector(ABC):
    """Finds what is to be cut out of photos. Used by one thread.

    Attributes:
        name: such as ``dlib-68``. version: of the package and the weights that decide what it finds.
        sees: what it finds, for the reader of a message that nothing was found.
    """

    name: str
    version: str
    sees: str = "what it looks for"

    @abstractmethod
    def faces(self, photo: Image.Image, image_id: str, every: bool = False) -> list[Face]:
        """What is found in an upright RGB photo, in any order; may be empty.

        Args:
            image_id: of the photo, for detectors that look things up.
            every: small ones beside large ones too; else the largest is enough.

        Raises:
            FaceRefused: what is known of this photo cannot be used.
        """
        ...

    def cut(self, photo: Image.Image, face: Face, size: int, supersample: int) -> Image.Image:
        """The face cut out, RGB [size, size]; by FFHQ's recipe, unless a detector knows better.

        Raises:
            DataError: it lies outside the photo.
        """
        return cut_quad(photo, face.quad, size, supersample)


class DetectorConfig(StrictModel, ABC):
    """The settings of a detector, which opens itself. A new one is a subclass of this and a line of ``DETECTORS``."""

    kind: str

    @abstractmethod
    def open(self) -> Detector:
        """The detector.

        Raises:
            ConfigError: a package or a file that is not there. WeightsRefused, DataError: a file that cannot be used.
        """

    def digest(self) -> str:
        """Of files that decide what is found, beside the settings; empty without any. It is part of what a run is."""
        return ""
