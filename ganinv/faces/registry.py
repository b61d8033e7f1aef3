"""Every detector. A new one: its configuration in this package, and a line here."""

from __future__ import annotations

from typing import Annotated, Any

from ganinv.config import ChosenBy, validate
from ganinv.faces.base import Detector, DetectorConfig
from ganinv.registry import Registry

DETECTORS: Registry[type[DetectorConfig]] = Registry(
    "face detector",
    {
        "dlib": "ganinv.faces.dlib68:DlibConfig",
        "yunet": "ganinv.faces.yunet:YuNetConfig",
        "landmarks": "ganinv.faces.table:LandmarkTableConfig",
        "centre": "ganinv.faces.centre:CentreConfig",
    },
)

AnyDetector = Annotated[DetectorConfig, ChosenBy("kind", DETECTORS)]


def open_detector(kind: str = "dlib", **settings: Any) -> Detector:
    """A detector by name: ``dlib``, ``yunet`` (``model=``), ``landmarks`` (``table=``), ``centre``.

    Raises:
        ConfigError: an unknown name or setting, or a package or file that is not there. WeightsRefused, DataError: a file that
            cannot be used.
    """
    return validate(DETECTORS[kind], {"kind": kind, **settings}, f"detector {kind}").open()
