"""From a photo to aligned faces and back. Start at :func:`align` with a detector of ``open_detector``, and :func:`paste`."""

from ganinv.faces.aligning import Aligned, align
from ganinv.faces.base import Detector, DetectorConfig, Face, FaceRefused
from ganinv.faces.pasting import paste
from ganinv.faces.registry import DETECTORS, AnyDetector, open_detector

__all__ = [
    "DETECTORS",
    "Aligned",
    "AnyDetector",
    "Detector",
    "DetectorConfig",
    "Face",
    "FaceRefused",
    "align",
    "open_detector",
    "paste",
]
