"""How alike two images are, by what needs no file and by the face network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ganinv.codes.code import Code
from ganinv.errors import ConfigError, WeightsRefused
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.distance import between, open_distance
from ganinv.losses.identity import FaceEmbedding
from ganinv.metrics.similarity import FaceSimilarity, open_similarity
from tests.tiny import tiny_generator


def test_embedded_similarity_is_the_mean_cosine_of_the_features() -> None:
    g = open_generator("portraits-64")
    images = g.synthesize(_code(g, 4))
    similarity = open_similarity("embedded", g)
    torch.testing.assert_close(similarity(images, images), torch.ones(4))
    got = similarity(images, images.roll(1, 0))
    assert ((got > -1) & (got < 0.95)).all()
    distance = open_distance("embedded", g)
    a, b = distance.features(images), distance.features(images.roll(1, 0))
    cosines = torch.stack([(x * y).flatten(1).sum(1) for x, y in zip(a, b, strict=True)]).mean(0)
    torch.testing.assert_close(got, cosines, atol=1e-4, rtol=0)
    assert torch.equal(got.argsort(), (-between(a, b)).argsort())


@pytest.mark.seconds
def test_face_similarity_is_the_cosine_of_embeddings() -> None:
    torch.manual_seed(0)
    similarity = FaceSimilarity(FaceEmbedding().eval())
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(similarity(images, images), torch.ones(2), atol=1e-5, rtol=0)
    assert similarity(images, -images).abs().max() < 1


def test_what_it_needs_is_said(tmp_path: Path) -> None:
    g = tiny_generator(16)
    g.discriminator = None
    with pytest.raises(ConfigError, match="embedded distance needs the discriminator"):
        open_similarity("embedded", g)
    with pytest.raises(WeightsRefused):
        open_similarity(f"{tmp_path}/model_ir_se50.pth", g)


def _code(g: Generator, count: int) -> Code:
    z = torch.randn(count, g.z_dim, generator=torch.Generator().manual_seed(0))
    return Code(w=g.map(z, truncation_psi=0.7))
