"""A veil over an image, which an edit makes if it whitens faces instead of making them older. Plain numbers from pixels,
without a network.

``detail``: root mean square of what remains after blocks of 4x4 pixels are averaged. ``brightness``, ``contrast``,
``saturation``: mean, standard deviation and colourfulness of the face. A haze raises brightness and lowers the other three.
"""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor

FACE = (0.25, 0.9, 0.2, 0.8)
"""Top, bottom, left and right of the face in an FFHQ-aligned image, as fractions of the side."""


def measure_haze(images: Tensor) -> dict[str, np.ndarray]:
    """Measures [N] of FFHQ-aligned images [N, 3, R, R] in [-1, 1], all in units of the image's range of 2."""
    shown = images.float().clamp(-1, 1)
    coarse = F.interpolate(F.avg_pool2d(shown, 4), shown.shape[-2:], mode="bilinear", align_corners=False)
    side = shown.shape[-1]
    top, bottom, left, right = (round(side * part) for part in FACE)
    face = (shown[..., top:bottom, left:right] + 1) / 2
    fine = (shown - coarse)[..., top:bottom, left:right] / 2
    grey = face.mean(1)
    return {
        "brightness": grey.mean((1, 2)).double().numpy(),
        "contrast": grey.flatten(1).std(1).double().numpy(),
        "detail": fine.square().mean((1, 2, 3)).sqrt().double().numpy(),
        "saturation": (face.amax(1) - face.amin(1)).mean((1, 2)).double().numpy(),
    }
