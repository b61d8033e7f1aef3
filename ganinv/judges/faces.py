"""Faces as dlib sees them: whether there is one, where its 68 landmarks are, and whose it is.

The detector is dlib's frontal one (histograms of gradients, no weights). The landmarks are from the regression trees of Kazemi
and Sullivan (2014). The descriptor is from dlib's residual network and has 128 dimensions (King 2017); two images nearer than
0.6 count as the same person. All were trained on photographs, and on nothing made here. The landmark model was trained on iBUG
300-W, whose licence excludes commercial use.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ganinv.errors import ConfigError, DataError
from ganinv.faces.dlib68 import MODEL
from ganinv.judges.descriptor import AROUND, CHIP, DIMENSIONS, DescriptorNet
from ganinv.judges.weights import INSTALL, Judge, PackagedWeights

SIDE = 256
"""Images are enlarged to this many pixels a side, because the detector's window has 80."""
SAME_PERSON = 0.6
"""Descriptors nearer than this belong to the same person, according to the author of the network."""
AT_ONCE = 16
"""Number of faces that are described at once."""

LANDMARKS = PackagedWeights(*MODEL)
DESCRIPTOR = PackagedWeights(
    "dlib face descriptor",
    MODEL.module,
    MODEL.distribution,
    "models/dlib_face_recognition_resnet_model_v1.dat",
    "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
)


@dataclass(frozen=True)
class Faces:
    """What was found in N images.

    Args:
        pixels: uint8 [N, S, S, 3], the images as the detector saw them. boxes: the faces, None if there is none.
        confidence: [N], of the detector (0 is its threshold; NaN without a face).
        landmarks: [N, 68, 2], x and y as fractions of the side; NaN without a face.
    """

    pixels: np.ndarray
    boxes: list[Any]
    confidence: np.ndarray
    landmarks: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """[N] bool: whether there is a face."""
        return ~np.isnan(self.confidence)


class FaceJudge:
    """``FaceJudge().look(images)``: one face per image, the one with the highest confidence.

    Raises:
        ConfigError: dlib or the models are not installed. WeightsRefused: the models are not the expected ones.
    """

    def __init__(self) -> None:
        self._detect = face_detector()
        import dlib

        self._dlib = dlib
        self._predict = dlib.shape_predictor(str(LANDMARKS.path()))

    @property
    def judges(self) -> tuple[Judge, Judge]:
        """The judge of landmarks, and the judge of descriptors."""
        return LANDMARKS.judge(), DESCRIPTOR.judge()

    def look(self, images: Tensor) -> Faces:
        """Find faces and landmarks in images [N, 3, R, R] in [-1, 1] (clamped, as a saved image would be).

        Raises:
            DataError: the input is not a batch of colour images.
        """
        pixels = enlarged(images, SIDE)
        boxes: list[Any] = []
        confidence = np.full(len(pixels), np.nan)
        landmarks = np.full((len(pixels), 68, 2), np.nan)
        for n, image in enumerate(pixels):
            found, scores, _ = self._detect.run(image, 0, 0.0)
            if not scores:
                boxes.append(None)
                continue
            best = int(np.argmax(scores))
            shape = self._predict(image, found[best])
            boxes.append(shape)
            confidence[n] = scores[best]
            landmarks[n] = [(point.x / SIDE, point.y / SIDE) for point in shape.parts()]
        return Faces(pixels, boxes, confidence, landmarks)

    def describe(self, faces: Faces) -> np.ndarray:
        """Descriptors [N, 128], NaN without a face."""
        rows = np.full((len(faces.boxes), DIMENSIONS), np.nan)
        seen = [n for n, shape in enumerate(faces.boxes) if shape is not None]
        for some in (seen[first : first + AT_ONCE] for first in range(0, len(seen), AT_ONCE)):
            chips = [self._dlib.get_face_chip(faces.pixels[n], faces.boxes[n], CHIP, AROUND) for n in some]
            rows[some] = self._recogniser(np.stack(chips)).double().numpy()
        return rows

    @cached_property
    def _recogniser(self) -> DescriptorNet:
        return DescriptorNet(DESCRIPTOR.path())


class FaceDetector:
    """dlib's frontal detector, which needs no weights. It takes one image at a time; threads may share it."""

    def __init__(self, detector: Any) -> None:
        self._detector, self._lock = detector, threading.Lock()

    def run(self, image: np.ndarray, upsample: int, threshold: float) -> tuple[Any, Any, Any]:
        """Boxes, confidences and views of the faces in an image [H, W, 3] of bytes."""
        with self._lock:
            return self._detector.run(image, upsample, threshold)  # type: ignore[no-any-return]


def face_detector() -> FaceDetector:
    """The one detector of this process.

    Raises:
        ConfigError: dlib is not installed.
    """
    try:
        import dlib  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"judging faces needs the package dlib-bin (or dlib): {INSTALL}") from error
    return _detector()


@lru_cache(maxsize=1)
def _detector() -> FaceDetector:
    """Made once, because it takes most of a second."""
    import dlib

    return FaceDetector(dlib.get_frontal_face_detector())


def identity_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distances [N] of descriptors [N, 128]; below ``SAME_PERSON``, two images show the same person. NaN without a face."""
    distance: np.ndarray = np.linalg.norm(a - b, axis=-1)
    return distance


def enlarged(images: Tensor, side: int) -> np.ndarray:
    """Images [N, 3, R, R] in [-1, 1] as uint8 [N, side, side, 3]: rounded to 8 bits first, as saved images are, then resized
    (bicubic; antialiased when they become smaller)."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise DataError(f"a judge takes images [N, 3, R, R] in [-1, 1], got {tuple(images.shape)}")
    rgb = ((images.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    out = np.empty((len(rgb), side, side, 3), np.uint8)
    for n, image in enumerate(rgb):
        out[n] = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
    return out
