"""Every degradation. A new one: its class in this package, and a line here."""

from __future__ import annotations

from typing import Annotated

from ganinv.config import ChosenBy
from ganinv.degradations.base import Degradation
from ganinv.registry import Registry

DEGRADATIONS: Registry[type[Degradation]] = Registry(
    "degradation",
    {
        "rain": "ganinv.degradations.rain:Rain",
        "strokes": "ganinv.degradations.holes:Strokes",
        "free-form": "ganinv.degradations.holes:FreeForm",
        "triangle": "ganinv.degradations.holes:Triangle",
        "down": "ganinv.degradations.sampling:Down",
        "blur": "ganinv.degradations.sampling:Blur",
        "noise": "ganinv.degradations.sampling:Noise",
        "jpeg": "ganinv.degradations.sampling:Jpeg",
        "sketch": "ganinv.degradations.drawing:Sketch",
        "labels": "ganinv.degradations.drawing:Labels",
        "mirror": "ganinv.degradations.mirror:Mirror",
        "grey": "ganinv.degradations.sampling:Grey",
    },
)

AnyDegradation = Annotated[Degradation, ChosenBy("kind", DEGRADATIONS)]
