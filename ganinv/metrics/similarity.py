"""How alike two images of a face are, between -1 and 1: what is left of a person along an edit (HyperStyle's curve)."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ganinv.generators.stylegan2 import Generator
from ganinv.losses.distance import EmbeddedDistance, between
from ganinv.losses.identity import FaceEmbedding, open_face_embedding


class Similarity(Protocol):
    """Similarity of two batches [B, 3, R, R] in [-1, 1]: [B], 1 for equal images. ``name`` is stored with the numbers."""

    name: str

    def __call__(self, a: Tensor, b: Tensor) -> Tensor: ...


def open_similarity(name: str, generator: Generator) -> Similarity:
    """A similarity by name.

    Args:
        name: ``embedded``, which needs no file, or the path or URL of the face network ArcFace IR-SE-50
            (``model_ir_se50.pth``), which tells persons apart.

    Raises:
        ConfigError: ``embedded``, and a generator without a discriminator. WeightsRefused: not that network.
    """
    if name == "embedded":
        return EmbeddedSimilarity(generator)
    return FaceSimilarity(open_face_embedding(name).to(generator.device))


class EmbeddedSimilarity:
    """Mean cosine of the discriminator's features, over positions and layers.

    It is no identity: nothing taught it to tell persons apart, and lighting or background move it as well. It stands in
    where no face network is at hand.
    """

    name = "embedded"

    def __init__(self, generator: Generator) -> None:
        self._distance = EmbeddedDistance.of(generator)  # no stand-in: their features are not of length one

    @torch.no_grad()
    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        features = self._distance.features(a), self._distance.features(b)
        # The squared distance of unit vectors is 2 - 2 cos; the distance adds up the layers.
        return 1 - between(*features) / (2 * len(features[0]))


class FaceSimilarity:
    """Cosine of ArcFace embeddings of FFHQ-aligned faces (Deng et al. 2019). The published curves use CurricularFace on
    faces found anew in every image; the absolute numbers differ."""

    name = "arcface-ir-se50"

    def __init__(self, network: FaceEmbedding) -> None:
        self._network = network

    @torch.no_grad()
    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return (self._network(a) * self._network(b)).sum(1)
