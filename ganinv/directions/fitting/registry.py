"""The ways to find directions, by name. Nothing is imported until one is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ganinv.registry import Registry

if TYPE_CHECKING:
    from ganinv.directions.fitting.method import DirectionMethod

METHODS: Registry[type[DirectionMethod]] = Registry(
    "direction method",
    {
        "interfacegan": "ganinv.directions.fitting.boundaries:Boundaries",
        "ganspace": "ganinv.directions.fitting.components:Components",
        "stylespace": "ganinv.directions.fitting.channels:Channels",
        "sefa": "ganinv.directions.fitting.sefa:Sefa",
        "classifier-gradient": "ganinv.directions.fitting.classifier_gradient:ClassifierGradient",
    },
)
