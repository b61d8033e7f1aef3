"""Cosines of features at several depths, against recorded outputs of the original (shared/golden/losses)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ganinv.config import validate
from ganinv.errors import ConfigError, WeightsRefused
from ganinv.losses.identity import open_face_embedding
from ganinv.losses.layered import FaceLayers, Layers, ParsingLayers, layered_loss, layered_terms, open_parsing
from ganinv.losses.similarity import open_similarity
from ganinv.losses.terms import LossConfig, Losses
from ganinv.networks.resnet50 import ResNet50
from tests.closed_form import closed_form_state, golden_images
from tests.tiny import tiny_generator

CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-4}


@pytest.mark.seconds
@pytest.mark.parametrize("kind", ["id", "parse"])
def test_golden(shared: Path, kind: str) -> None:
    folder = shared / "golden" / "losses"
    arrays = np.load(folder / "e2style_multilayer.npz", allow_pickle=False)
    layers: Layers
    if kind == "id":
        layers = FaceLayers(open_face_embedding(closed_form_state(folder / "arcface_irse50.json")))
    else:
        layers = ParsingLayers(open_parsing(closed_form_state(folder / "e2style_parsing.json")))
    target, rendered = (golden_images(arrays[name]) for name in ("image_u8", "image_hat_u8"))
    with torch.no_grad():
        features = layers.features(target)
    norms = torch.stack([x.norm(dim=1) for x in features]).double()
    torch.testing.assert_close(norms, torch.from_numpy(arrays[f"{kind}.feature_norms"]), **CLOSE)
    samples = torch.stack([x[0][:: max(1, x.shape[1] // 512)][:512] for x in features])
    torch.testing.assert_close(samples, torch.from_numpy(arrays[f"{kind}.feature_samples"]), atol=1e-4, rtol=1e-3)
    rendered.requires_grad_()
    terms = layered_terms(layers, rendered, target)
    torch.testing.assert_close(terms.detach().double(), torch.from_numpy(arrays[f"{kind}.terms"]), **CLOSE)
    (gradient,) = torch.autograd.grad(terms.sum(), rendered)
    wanted = torch.from_numpy(arrays[f"{kind}.grad"])
    within = 1e-6 + 1e-3 * float(wanted.abs().max())
    torch.testing.assert_close(gradient[:, :, ::4, ::4].contiguous(), wanted, atol=within, rtol=0)
    assert float(layered_loss(layers, target[:1], target[:1])) == pytest.approx(0, abs=1e-5)


def test_the_discriminator_stands_in_and_files_are_asked_for() -> None:
    g = tiny_generator()
    images = torch.rand(2, 3, 32, 32)
    losses = Losses(validate(LossConfig, {"distance": 0, "layered": {"discriminator": 0.25}}, "test"), g)
    (layers,) = losses.layered.values()
    features = layers.features(images)
    assert [x.shape for x in features] == [(2, 8 * 16), (2, 16 * 16), (2, 16 * 16)]
    assert float(layered_loss(layers, images, images)) == pytest.approx(0, abs=1e-5)
    assert float(layered_loss(layers, images.flip(3), images)) > 1e-4
    with pytest.raises(ConfigError, match=r"set losses\.layered_weights\.parsing"):
        Losses(validate(LossConfig, {"distance": 0, "layered": {"parsing": 1}}, "test"), g)
    with pytest.raises(ConfigError, match="unknown network of layered losses 'pars'"):
        validate(LossConfig, {"layered": {"pars": 1}}, "test")


@pytest.mark.seconds
def test_similarity_of_the_published_file() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in ResNet50().parameters()) == 23_508_032
    torch.manual_seed(0)
    state = {f"module.encoder_q.{name}": t for name, t in ResNet50().state_dict().items()}
    network = open_similarity(state | {"module.encoder_q.fc.0.weight": torch.zeros(1), "module.queue": torch.zeros(1)})
    images = torch.rand(1, 3, 32, 32)  # the published code fails for one image
    with torch.no_grad():
        assert network(images).norm(dim=1).item() == pytest.approx(1, abs=1e-5)
        assert float(network.loss(images, images)) == pytest.approx(0, abs=1e-5)
    with pytest.raises(WeightsRefused, match=r"expected tensors under module\.encoder_q\."):
        open_similarity({"conv1.weight": torch.zeros(1)})
    with pytest.raises(ConfigError, match=r"set losses\.similarity_weights"):
        Losses(validate(LossConfig, {"distance": 0, "similarity": 0.5}, "test"), tiny_generator())
