"""Directions: what a ``Direction`` is, and one file per way to fit one."""

from ganinv.directions.direction import Direction, Mode, Space
from ganinv.directions.ganspace import GanSpaceConfig, PrincipalComponents, fit_ganspace
from ganinv.directions.interfacegan import Boundary, InterFaceGanConfig, fit_interfacegan
from ganinv.directions.projection import project_out

__all__ = [
    "Boundary",
    "Direction",
    "GanSpaceConfig",
    "InterFaceGanConfig",
    "Mode",
    "PrincipalComponents",
    "Space",
    "fit_ganspace",
    "fit_interfacegan",
    "project_out",
]
