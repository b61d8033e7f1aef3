"""The frozen protocol that says exactly how an inversion or an edit was evaluated, and the evaluation itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ganinv.config import StrictModel, digest
from ganinv.errors import DataError
from ganinv.metrics.images import ms_ssim, mse, psnr, ssim

Distance = Callable[[Tensor, Tensor], Tensor]
"""Perceptual distance of two batches [B, 3, R, R] in [-1, 1]: [B]."""
Scores = Callable[[Tensor], Mapping[str, Tensor]]
"""A labeller: images [B, 3, R, R] in [-1, 1] to attribute -> [B]."""
MEASURES_SINCE = "0.1.0"
"""The version that first computed the measures as they are; a change that moves a number changes it."""


class EvaluationProtocol(StrictModel):
    """Every setting that moves a number. Two tables may be compared when their protocols' digests are equal."""

    name: str = "inversion-2"
    resize: int | None = Field(default=None, ge=11)
    """Side in pixels at which images are compared; None compares them as rendered."""
    resize_kernel: Literal["antialiased-bilinear"] = "antialiased-bilinear"
    range: tuple[float, float] = (-1.0, 1.0)
    """Images are clamped to this range first, as saving them would."""
    peak: float = 2.0
    ssim_range: tuple[float, float] = (0.0, 1.0)
    """SSIM and MS-SSIM are computed on images moved to this range, as libraries do."""
    ssim_window: int = 11
    ssim_sigma: float = 1.5
    ssim_channels: Literal["mean of per-channel values"] = "mean of per-channel values"
    distance: str = ""
    """Name of the perceptual distance."""
    labeller: str = ""
    """``name@version`` of the labeller, empty if none was used."""
    code_version: str = ""
    """Of the measures, not of the code that ran: ``MEASURES_SINCE`` in tables, so that commits which move no number compare."""

    @property
    def digest(self) -> str:
        """sha256 of all settings."""
        return digest(self)


def evaluate_inversion(
    source: Tensor,
    rendered: Tensor,
    distance: Distance | None = None,
    labeller: Scores | None = None,
    protocol: EvaluationProtocol | None = None,
) -> dict[str, np.ndarray]:
    """Per-image quality of inversions; nothing is averaged over images.

    Args:
        source: what was inverted, [B, 3, R, R] in [-1, 1].
        rendered: what the generator makes of the codes, same shape.
        distance, labeller: what ``protocol.distance`` and ``protocol.labeller`` name.

    Returns:
        float32 [B] each: ``mse``, ``psnr``, ``ssim``, ``ms_ssim`` (NaN below 176 pixels), ``distance``, and
        ``score_<attribute>_source`` and ``score_<attribute>`` for each attribute of the labeller.

    Raises:
        DataError: the batches do not fit.
    """
    protocol = protocol or EvaluationProtocol()
    if source.shape != rendered.shape:
        raise DataError(
            f"source and rendered images must pair up, got {tuple(source.shape)} and {tuple(rendered.shape)}"
        )
    with torch.no_grad():
        a, b = prepare(source, protocol), prepare(rendered, protocol)
        window = (protocol.ssim_window, protocol.ssim_sigma)
        columns = {
            "mse": mse(a, b),
            "psnr": psnr(a, b, protocol.peak),
            "ssim": ssim(a, b, *window),
            "ms_ssim": ms_ssim(a, b, *window),
        }
        if distance is not None:
            columns["distance"] = distance(a, b)
        if labeller is not None:
            columns |= {f"score_{name}_source": score for name, score in labeller(a).items()}
            columns |= {f"score_{name}": score for name, score in labeller(b).items()}
    return _arrays(columns)


def evaluate_edit(
    before: Tensor, edited: Tensor, labeller: Scores, protocol: EvaluationProtocol | None = None
) -> dict[str, np.ndarray]:
    """What an edit did to each attribute: ``score_<attribute>_before`` and ``score_<attribute>``, float32 [B] each.

    Args:
        before: the inversions rendered without the edit, [B, 3, R, R] in [-1, 1] (not the sources: their score also
            differs by what the inversion lost). edited: rendered with it.
    """
    protocol = protocol or EvaluationProtocol()
    if before.shape != edited.shape:
        raise DataError(
            f"images before and after an edit must pair up, got {tuple(before.shape)} and {tuple(edited.shape)}"
        )
    with torch.no_grad():
        columns = {f"score_{name}_before": score for name, score in labeller(prepare(before, protocol)).items()}
        columns |= {f"score_{name}": score for name, score in labeller(prepare(edited, protocol)).items()}
    return _arrays(columns)


def prepare(images: Tensor, protocol: EvaluationProtocol) -> Tensor:
    """Images as the protocol compares them: float32, clamped, resized."""
    images = images.float().clamp(*protocol.range)
    if protocol.resize is None or images.shape[2:] == (protocol.resize, protocol.resize):
        return images
    size = (protocol.resize, protocol.resize)
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


def _arrays(columns: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: value.detach().float().cpu().numpy() for name, value in columns.items()}
