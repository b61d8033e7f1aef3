"""Directions: what a ``Direction`` is, and one file per way to fit one, and how published ones come in and go out."""

from ganinv.directions.direction import Direction, Mode, Space
from ganinv.directions.exporting import export_direction, export_directions
from ganinv.directions.files import read_direction_file
from ganinv.directions.ganspace import GanSpaceConfig, PrincipalComponents, fit_ganspace
from ganinv.directions.importing import import_directions
from ganinv.directions.interfacegan import Boundary, InterFaceGanConfig, fit_interfacegan
from ganinv.directions.projection import project_out
from ganinv.directions.stated import StatedGenerator

__all__ = [
    "Boundary",
    "Direction",
    "GanSpaceConfig",
    "InterFaceGanConfig",
    "Mode",
    "PrincipalComponents",
    "Space",
    "StatedGenerator",
    "export_direction",
    "export_directions",
    "fit_ganspace",
    "fit_interfacegan",
    "import_directions",
    "project_out",
    "read_direction_file",
]
