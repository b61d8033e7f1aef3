"""Does a face wear glasses? This judge shares nothing with the network that directions are fitted with.

It is a logistic regression on SqueezeNet's features of the eye region, which is found by dlib's landmarks: features from
ImageNet, and a few thousand coefficients fitted to real portraits (``glasses_fit.py`` fits them, and measures how well).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load
from torch import Tensor

from ganinv.errors import ConfigError
from ganinv.judges.faces import Faces
from ganinv.judges.measures import EYES
from ganinv.judges.squeezenet import SqueezeNet
from ganinv.judges.weights import Judge

ASSETS = Path(__file__).parent / "assets" / "glasses"
LAYER, CELLS = "fire7", (2, 4)
HEIGHT, WIDTH = 64, 128
ACROSS = 2.3  # times the distance between the eyes
BELOW = 0.08  # of the height: frames reach further down from the pupils than up


@dataclass(frozen=True)
class GlassesProbe:
    """``probe.probability(images, faces)``.

    Args:
        net: the network whose features are used. coefficients: [D], and bias: of the regression.
        slope, offset: turn a score into calibrated log-odds (Platt 1999).
    """

    net: SqueezeNet
    coefficients: np.ndarray
    bias: float
    slope: float
    offset: float
    judge: Judge

    def score(self, images: Tensor, faces: Faces) -> np.ndarray:
        """Calibrated log-odds [N] that a face wears glasses, NaN if no face was found."""
        out = np.full(len(images), np.nan)
        seen = np.flatnonzero(faces.found)
        if len(seen):
            features = eye_features(self.net, images[torch.from_numpy(seen)], faces.landmarks[seen])
            out[seen] = (features @ self.coefficients + self.bias) * self.slope + self.offset
        return out

    def probability(self, images: Tensor, faces: Faces) -> np.ndarray:
        """Probability [N] that a face wears glasses, NaN if no face was found."""
        probability: np.ndarray = 1 / (1 + np.exp(-self.score(images, faces)))
        return probability


def open_glasses_probe(folder: Path = ASSETS, net: SqueezeNet | None = None) -> GlassesProbe:
    """Open the shipped probe, or another one that ``glasses_fit`` wrote.

    Raises:
        ConfigError: there is no probe, it was fitted on other features, or SqueezeNet's weights are missing.
    """
    if not (folder / "probe.json").is_file():
        raise ConfigError(f"no glasses probe in {folder}: fit one with python -m ganinv.judges.glasses_fit")
    card: dict[str, Any] = json.loads((folder / "probe.json").read_text())
    net = net or SqueezeNet()
    if card["features_sha256"] != net.judge.sha256:
        raise ConfigError(
            f"the glasses probe in {folder} was fitted on features of weights {card['features_sha256'][:12]}, but those here are "
            f"{net.judge.sha256[:12]}: fit it again with python -m ganinv.judges.glasses_fit"
        )
    coefficients = load((folder / "probe.safetensors").read_bytes())["coefficients"].astype(np.float64)
    judge = Judge("glasses probe", f"version {card['version']}, on {net.judge.name}", card["sha256"])
    return GlassesProbe(net, coefficients, card["bias"], card["slope"], card["offset"], judge)


def eye_region(images: Tensor, landmarks: np.ndarray) -> Tensor:
    """Both eyes and the brows, upright: [N, 3, 64, 128] of images [N, 3, R, R] and landmarks [N, 68, 2]."""
    left, right = (landmarks[:, eye].mean(1) for eye in EYES)
    across = (right - left) * ACROSS
    down = np.stack([-across[:, 1], across[:, 0]], 1) * (HEIGHT / WIDTH)
    centre = left + right - 1 + 2 * BELOW * down  # in the grid's own units, -1 to 1
    theta = torch.from_numpy(np.stack([across, down, centre], axis=2)).float()
    grid = F.affine_grid(theta, [len(images), 3, HEIGHT, WIDTH], align_corners=False)
    return F.grid_sample(images.float(), grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(-1, 1)


@torch.inference_mode()
def eye_features(net: SqueezeNet, images: Tensor, landmarks: np.ndarray, batch_size: int = 32) -> np.ndarray:
    """[N, 3072] float64: activations of the eye region, averaged over two rows of four cells."""
    rows = []
    for first in range(0, len(images), batch_size):
        part = slice(first, first + batch_size)
        activations = net(eye_region(images[part], landmarks[part]), last=LAYER)[LAYER]
        rows.append(F.adaptive_avg_pool2d(activations, CELLS).flatten(1).double().numpy())
    return np.concatenate(rows)
