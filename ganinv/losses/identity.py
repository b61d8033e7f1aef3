"""Identity of a face: the ArcFace IR-SE-50 embedding (Deng et al. 2019), and the identity loss of the StyleGAN encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

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


class IdentityLoss(NamedTuple):
    """``loss`` is the mean of 1 - cos(y_hat, y) over the batch; the similarities are per image, [B]."""

    loss: Tensor
    similarity_target: Tensor
    """cos(y_hat, y)"""
    similarity_input: Tensor | None
    """cos(y_hat, x)"""
    similarity_views: Tensor | None
    """cos(y, x)"""


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

    def loss(self, y_hat: Tensor, y: Tensor, x: Tensor | None = None) -> IdentityLoss:
        """How far the identity of renderings ``y_hat`` is from that of targets ``y``; ``x`` are inputs that differ from y.

        Gradients flow to ``y_hat`` only.
        """
        with torch.no_grad():
            target = self(y)
            source = None if x is None else self(x)
        found = self(y_hat)
        similarity = (found * target).sum(1)
        return IdentityLoss(
            (1 - similarity).mean(),
            similarity.detach(),
            None if source is None else (found.detach() * source).sum(1),
            None if source is None else (target * source).sum(1),
        )


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
