"""Metrics: image distances, feature distances, and the protocol that fixes their settings."""

from ganinv.metrics.attribute_dependency import DependencyCurve, attribute_dependency
from ganinv.metrics.dci import Dci, DciConfig, dci
from ganinv.metrics.features import KernelDistance, frechet, kid
from ganinv.metrics.images import ms_ssim, mse, psnr, ssim
from ganinv.metrics.lec import EditingConsistency, editing_consistency
from ganinv.metrics.moments import Moments
from ganinv.metrics.protocol import EvaluationProtocol, evaluate_edit, evaluate_inversion

__all__ = [
    "Dci",
    "DciConfig",
    "DependencyCurve",
    "EditingConsistency",
    "EvaluationProtocol",
    "KernelDistance",
    "Moments",
    "attribute_dependency",
    "dci",
    "editing_consistency",
    "evaluate_edit",
    "evaluate_inversion",
    "frechet",
    "kid",
    "ms_ssim",
    "mse",
    "psnr",
    "ssim",
]
