"""Directions: what a ``Direction`` is, and one file per way to fit one, and how published ones come in and go out."""

from ganinv.directions.direction import Direction, Mode, Space
from ganinv.directions.exchange.exporting import export_direction, export_directions
from ganinv.directions.exchange.files import read_direction_file
from ganinv.directions.exchange.importing import import_directions
from ganinv.directions.exchange.stated import StatedGenerator
from ganinv.directions.fitting.classifier_gradient import (
    ClassifierGradientEditor,
    fit_classifier_gradient,
    image_scores,
)
from ganinv.directions.fitting.ganspace import GanSpaceConfig, PrincipalComponents, fit_ganspace
from ganinv.directions.fitting.interfacegan import Boundary, InterFaceGanConfig, fit_boundary, fit_interfacegan
from ganinv.directions.fitting.projection import project_out
from ganinv.directions.fitting.sefa import SefaConfig, fit_sefa
from ganinv.directions.measuring.calibration import CalibrationConfig, calibrate, in_score_units
from ganinv.directions.measuring.effects import Effects, Start, measure_effects
from ganinv.directions.styles import StyleLayout

__all__ = [
    "Boundary",
    "CalibrationConfig",
    "ClassifierGradientEditor",
    "Direction",
    "Effects",
    "GanSpaceConfig",
    "InterFaceGanConfig",
    "Mode",
    "PrincipalComponents",
    "SefaConfig",
    "Space",
    "Start",
    "StatedGenerator",
    "StyleLayout",
    "calibrate",
    "export_direction",
    "export_directions",
    "fit_boundary",
    "fit_classifier_gradient",
    "fit_ganspace",
    "fit_interfacegan",
    "fit_sefa",
    "image_scores",
    "import_directions",
    "in_score_units",
    "measure_effects",
    "project_out",
    "read_direction_file",
]
