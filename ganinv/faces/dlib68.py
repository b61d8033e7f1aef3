"""dlib's frontal detector and its 68 landmarks, from which FFHQ's own crops were made (Karras et al. 2019, appendix A).

The detector is one of histograms of gradients (no weights), the landmarks are the regression trees of Kazemi and Sullivan
(2014), trained on iBUG 300-W, whose licence leaves out commercial use. Works offline: the extra ``faces``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np

from ganinv.data.align import Point, landmarks68_to_points
from ganinv.errors import ConfigError
from ganinv.faces.base import Detector
from ganinv.faces.looking import LookConfig, LookingDetector
from ganinv.reading.packaged import PackagedWeights

MODEL = PackagedWeights(
    "dlib landmarks",
    "face_recognition_models",
    "face_recognition_models",
    "models/shape_predictor_68_face_landmarks.dat",
    "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
    "faces",
)


def dlib_installed() -> bool:
    """Whether dlib and its landmark model are installed (the extra ``faces``). Imports neither."""
    return find_spec("dlib") is not None and find_spec(MODEL.module) is not None


class DlibConfig(LookConfig):
    """dlib's 68 landmarks. Its window has 80 pixels: at the given sides, faces of an eighth, then of a twentieth of the photo are
    seen."""

    kind: Literal["dlib"] = "dlib"

    def open(self) -> Detector:
        return Dlib68(self)


class Dlib68(LookingDetector):
    """See :class:`DlibConfig`.

    Raises:
        ConfigError: dlib or the model is not installed. WeightsRefused: another model than expected.
    """

    name = "dlib-68"
    sees = "faces that look at the camera, of a twentieth of the photo and more"

    def __init__(self, cfg: DlibConfig | None = None) -> None:
        super().__init__(cfg or DlibConfig())
        try:
            import dlib
        except ImportError as error:
            raise ConfigError(
                f"the detector dlib needs the package dlib-bin (or dlib): {MODEL.install}; or name another detector"
            ) from error
        self._dlib, self._model = dlib, str(MODEL.path())
        self.version = f"dlib {dlib.__version__}, {MODEL.release()}"

    # Both take most of a second, and planning a run only needs the version.
    @cached_property
    def _detect(self) -> Any:
        return self._dlib.get_frontal_face_detector()

    @cached_property
    def _predict(self) -> Any:
        return self._dlib.shape_predictor(self._model)

    def find(self, seen: np.ndarray, fine: np.ndarray, ratio: float, least: float) -> list[tuple[np.ndarray, float]]:
        boxes, scores, _ = self._detect.run(seen, 0, least)
        found = []
        for box, score in zip(boxes, scores, strict=True):
            edges = (round(edge * ratio) for edge in (box.left(), box.top(), box.right(), box.bottom()))
            shape = self._predict(fine, self._dlib.rectangle(*edges))
            found.append((np.array([(point.x, point.y) for point in shape.parts()], np.float64), float(score)))
        return found

    def four(self, landmarks: np.ndarray) -> Sequence[Point]:
        return landmarks68_to_points(landmarks)
