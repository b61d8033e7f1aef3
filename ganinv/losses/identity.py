"""Identity of a face: the ArcFace IR-SE-50 embedding (Deng et al. 2019), and the identity loss of the StyleGAN encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganinv.errors import WeightsRefused
from ganinv.networks.adopt import Lazy, adopt_new, from_file
from ganinv.networks.irse import IRSE50
from ganinv.networks.keymaps import FACE_EMBEDDING

ALIGNED = 256  # the crop is where the face is in an FFHQ-aligned image of this size
ROWS, COLUMNS = slice(35, 223), slice(32, 220)
FACE = 112


class FaceEmbedding(nn.Module):
    """``embedding(images [B, 3, R, R] in [-1, 1], FFHQ-aligned) -> [B, 512]`` of unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = IRSE50()
        self.norm = nn.BatchNorm2d(512)
        self.linear = nn.Linear(512 * 7 * 7, 512)
        self.unit = nn.BatchNorm1d(512)

    def forward(self, images: Tensor) -> Tensor:
        return self.embed(crop_face(images))

    def embed(self, faces: Tensor) -> Tensor:
        """Face crops [B, 3, 112, 112] to embeddings [B, 512] of unit length."""
        x = self.norm(self.trunk(faces)[0])
        return F.normalize(self.unit(self.linear(x.flatten(1))), dim=1)

    def loss(self, y_hat: Tensor, y: Tensor) -> Tensor:
        """1 - cos of the embeddings of renderings ``y_hat`` and targets ``y``, both [B, 3, R, R]; a scalar, the batch's mean.

        Gradients flow to ``y_hat`` only.
        """
        with torch.no_grad():
            target = self(y)
        return (1 - (self(y_hat) * target).sum(1)).mean()


def crop_face(images: Tensor) -> Tensor:
    """FFHQ-aligned images [B, 3, R, R] to face crops [B, 3, 112, 112], by area means."""
    if images.shape[2:] != (ALIGNED, ALIGNED):
        images = F.adaptive_avg_pool2d(images, ALIGNED)
    return F.adaptive_avg_pool2d(images[:, :, ROWS, COLUMNS], FACE)


def face_area(images: Tensor) -> Tensor:
    """The part of FFHQ-aligned images [B, C, R, R] where the face is, at their own resolution: 188 of 256 pixels."""
    height, width = images.shape[2:]
    rows, columns = (
        slice(round(cut.start * side / ALIGNED), round(cut.stop * side / ALIGNED))
        for cut, side in ((ROWS, height), (COLUMNS, width))
    )
    return images[:, :, rows, columns]


def open_face_embedding(source: str | Mapping[str, Lazy]) -> FaceEmbedding:
    """The embedding from the published ``model_ir_se50.pth``, frozen. Nothing in the file runs.

    Args:
        source: path or fsspec URL of the file, or its state dict.

    Raises:
        WeightsRefused: not that network, tensors are missing, of another shape, or not finite.
    """
    return from_file(source, "the face network", _adopted)


def _adopted(tensors: Any, where: str) -> FaceEmbedding:
    if not isinstance(tensors, Mapping):
        raise WeightsRefused(
            f"{where} holds a {type(tensors).__name__}, expected the state dict of an IR-SE-50 face network"
        )
    return adopt_new(FaceEmbedding, tensors, FACE_EMBEDDING, where)
