"""YuNet (Wu et al. 2023), a small network of five points, through OpenCV: the extra ``yunet``, and its ONNX file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ganinv.data.align import Point
from ganinv.errors import ConfigError, WeightsRefused
from ganinv.faces.base import Detector
from ganinv.faces.looking import LookConfig, LookingDetector


class YuNetConfig(LookConfig):
    """YuNet, or another network with its outputs.

    Args:
        model: the ONNX file, such as face_detection_yunet_2023mar.onnx of OpenCV's model zoo; none comes with this package.
    """

    kind: Literal["yunet"] = "yunet"
    model: str
    sides: tuple[int, ...] = (640, 1280)
    threshold: float = 0.6

    def open(self) -> Detector:
        return YuNet(self)

    def digest(self) -> str:
        return hashlib.sha256(self._bytes).hexdigest()

    @cached_property
    def _bytes(self) -> bytes:
        try:
            return Path(self.model).read_bytes()
        except OSError as error:
            raise ConfigError(f"there is no network that can be read at {self.model}: {error}") from error


class YuNet(LookingDetector):
    """See :class:`YuNetConfig`.

    Raises:
        ConfigError: OpenCV is not installed, or the file is not there. WeightsRefused: it is no such network.
    """

    name = "yunet"
    sees = "faces of some ten pixels and more of the photo at 1280"

    def __init__(self, cfg: YuNetConfig) -> None:
        super().__init__(cfg)
        try:
            import cv2
        except ImportError as error:
            raise ConfigError(
                "the detector yunet needs OpenCV: pip install 'ganinv[yunet]'; or name another detector"
            ) from error
        digest = cfg.digest()
        try:
            self._net: Any = cv2.FaceDetectorYN.create(cfg.model, "", (320, 320), cfg.threshold)
            self._net.detect(np.zeros((320, 320, 3), np.uint8))
        except cv2.error as error:
            raise WeightsRefused(f"{cfg.model} is not a network with YuNet's outputs in ONNX: {error}") from error
        self.version = f"opencv {cv2.__version__}, {Path(cfg.model).name} {digest[:12]}"

    def find(self, seen: np.ndarray, fine: np.ndarray, ratio: float, least: float) -> list[tuple[np.ndarray, float]]:
        self._net.setInputSize((seen.shape[1], seen.shape[0]))
        self._net.setScoreThreshold(min(least, 0.95))
        _, rows = self._net.detect(np.ascontiguousarray(seen[..., ::-1]))  # OpenCV's order of colours
        # A pixel's centre lies half a pixel inside it, in each of the two pictures.
        return [
            ((row[4:14].astype(np.float64).reshape(5, 2) + 0.5) * ratio - 0.5, float(row[14]))
            for row in (rows if rows is not None else ())
        ]

    def four(self, landmarks: np.ndarray) -> Sequence[Point]:
        return (*landmarks[:2], *landmarks[3:])  # it names sides by the person's: the viewer's left comes first
