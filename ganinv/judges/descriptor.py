"""dlib's face descriptor computed by PyTorch: the same weights and the same numbers, for many faces at once.

The wheel of dlib multiplies matrices without a library and takes about 80 ms for a face; this takes a tenth of that. The
network is a ResNet of 29 layers (King 2017, after He et al. 2016) with affine layers instead of batch normalisation. Its file
is in dlib's own serialisation, of which only the tensors are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganinv.errors import WeightsRefused
from ganinv.reading.start import without_random_start

CHIP, AROUND = 150, 0.25
"""Side of an aligned face in pixels, and the margin around it as a fraction of the side."""
MEAN_RGB = (122.782, 117.001, 104.298)
WIDTHS = (32, 32, 32, 64, 64, 64, 64, 128, 128, 128, 256, 256, 256, 256)
"""Output channels of each block of two convolutions. The first block of each width above 32 halves the image, and so does the
last block."""
DIMENSIONS = 128

_TENSOR = re.compile(
    rb"\x05con_4|\x07affine_|\x04fc_2\x01\x80\x02\x00\x01"
)  # the last names its 128 outputs and 256 inputs


class DescriptorNet(nn.Module):
    """``net(chips uint8 [N, 150, 150, 3]) -> [N, 128]``, frozen.

    Args:
        path: dlib's ``dlib_face_recognition_resnet_model_v1.dat``.

    Raises:
        WeightsRefused: the file contains another network.
    """

    mean: Tensor

    def __init__(self, path: Path) -> None:
        super().__init__()
        tensors = _tensors(path.read_bytes())
        inputs = (32, *WIDTHS[:-1])
        self.halves = [a != b or n == len(WIDTHS) - 1 for n, (a, b) in enumerate(zip(inputs, WIDTHS, strict=True))]
        try:
            self.first = _convolution(tensors, 3, 32, 7, half=True)
            pairs = [
                (_convolution(tensors, before, width, 3, half), _convolution(tensors, width, width, 3))
                for before, width, half in zip(inputs, WIDTHS, self.halves, strict=True)
            ]
            last = next(tensors)
            self.last = nn.Parameter(torch.from_numpy(last.reshape(WIDTHS[-1], DIMENSIONS)))
        except (StopIteration, ValueError) as error:
            raise WeightsRefused(f"{path} does not hold dlib's network of face descriptors: {error}") from error
        self.first_of, self.second_of = (nn.ModuleList(layers) for layers in zip(*pairs, strict=True))
        self.register_buffer("mean", torch.tensor(MEAN_RGB).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def forward(self, chips: np.ndarray) -> Tensor:
        x = (torch.from_numpy(chips).permute(0, 3, 1, 2).float() - self.mean) / 256
        x = F.max_pool2d(F.relu(self.first(x)), 3, 2)
        for one, two, half in zip(self.first_of, self.second_of, self.halves, strict=True):
            inner = two(F.relu(one(x)))
            x = F.relu(_sum(inner, F.avg_pool2d(x, 2) if half else x))
        described: Tensor = x.mean((2, 3)) @ self.last
        return described


def _sum(a: Tensor, b: Tensor) -> Tensor:
    """Add maps of different sizes or channels as dlib does: missing values are zero."""
    channels, height, width = (max(a.shape[n], b.shape[n]) for n in (1, 2, 3))
    grown = [F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2], 0, channels - x.shape[1])) for x in (a, b)]
    return grown[0] + grown[1]


def _convolution(tensors: Iterator[np.ndarray], before: int, width: int, side: int, half: bool = False) -> nn.Conv2d:
    """A convolution and the affine layer after it, merged into one convolution."""
    filters, affine = next(tensors), next(tensors)
    weight = torch.from_numpy(filters[:-width].reshape(width, before, side, side))
    bias = torch.from_numpy(filters[-width:].copy())
    scale, shift = torch.from_numpy(affine.reshape(2, width))
    with without_random_start():
        layer = nn.Conv2d(before, width, side, stride=1 + half, padding=0 if half else side // 2)
    layer.weight = nn.Parameter(weight * scale.view(-1, 1, 1, 1))
    layer.bias = nn.Parameter(bias * scale + shift)
    return layer


def _tensors(data: bytes) -> Iterator[np.ndarray]:
    """Parameters of each layer that has any, as flat arrays, starting at the layer that reads the image.

    In the file, a tensor is a version and four sizes (each as a count of bytes and an integer of that many bytes), followed by
    its float32 values.
    """
    end = 0
    while (found := _TENSOR.search(data, end)) is not None:
        place, sizes = found.end(), list[int]()
        for _ in range(5):
            length = data[place]
            sizes.append(int.from_bytes(data[place + 1 : place + 1 + length], "little"))
            place += 1 + length
        count = int(np.prod(sizes[1:]))
        yield np.frombuffer(data, "<f4", count, place).astype(np.float32)
        end = place + 4 * count
