"""The features that a labeller's scores are made of, for distances between sets of images."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ganinv.labels.network import NetworkLabeller


@torch.inference_mode()
def features(labeller: NetworkLabeller, images: Tensor, batch_size: int = 128) -> np.ndarray:
    """Pooled trunk features [N, C] of images [N, 3, R, R] in [-1, 1], of a labeller of this project's own network."""
    parts: list[Tensor] = []
    hook = labeller.net.head.register_forward_pre_hook(lambda _, inputs: parts.append(inputs[0]))  # type: ignore[union-attr]
    try:
        for start in range(0, len(images), batch_size):
            labeller(images[start : start + batch_size])
    finally:
        hook.remove()
    return torch.cat(parts).cpu().numpy()
