"""The face embedding and identity loss against recorded outputs (shared/golden/losses), and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ganinv.errors import WeightsRefused
from ganinv.losses.identity import FaceEmbedding, crop_face, open_face_embedding
from ganinv.networks.adopt import published_name
from ganinv.networks.keymaps import FACE_EMBEDDING
from tests.closed_form import closed_form_state, golden_images

CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-4}


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """Random ones under the published names, which the golden file has as well."""
    torch.manual_seed(0)
    return {published_name(name, FACE_EMBEDDING): tensor for name, tensor in FaceEmbedding().state_dict().items()}


@pytest.mark.seconds
def test_golden(weights: dict[str, Tensor], shared: Path) -> None:
    arrays = np.load(shared / "golden" / "losses" / "arcface_irse50.npz", allow_pickle=False)
    golden = closed_form_state(shared / "golden" / "losses" / "arcface_irse50.json")
    assert {name: t.shape for name, t in golden.items()} == {name: t.shape for name, t in weights.items()}
    network = open_face_embedding(golden)
    assert not any(p.requires_grad for p in network.parameters())
    images, noisy = golden_images(arrays["image_u8"]), golden_images(arrays["image_hat_u8"])
    with torch.no_grad():
        torch.testing.assert_close(network(images), torch.from_numpy(arrays["embedding"]), **CLOSE)
        torch.testing.assert_close(network(noisy), torch.from_numpy(arrays["embedding_hat"]), **CLOSE)
        loss = network.loss(noisy, images)
    torch.testing.assert_close(loss, torch.tensor(arrays["id_loss"]), **CLOSE)


@pytest.mark.seconds
def test_gradients_reach_the_rendering_alone(weights: dict[str, Tensor]) -> None:
    network = open_face_embedding(weights)
    y_hat, y = torch.rand(1, 3, 64, 64, requires_grad=True), torch.rand(1, 3, 64, 64, requires_grad=True)
    network.loss(y_hat, y).backward()
    assert y_hat.grad is not None
    assert y_hat.grad.abs().sum() > 0
    assert y.grad is None


@pytest.mark.seconds
def test_missing_and_damaged_weights_are_refused(weights: dict[str, Tensor]) -> None:
    without = {k: v for k, v in weights.items() if k != "output_layer.3.bias"}
    with pytest.raises(WeightsRefused, match=r"missing output_layer\.3\.bias"):
        open_face_embedding(without)
    damaged = weights | {"body.7.res_layer.1.weight": weights["body.7.res_layer.1.weight"] * float("nan")}
    with pytest.raises(WeightsRefused, match=r"body\.7\.res_layer\.1\.weight holds values that are not finite"):
        open_face_embedding(damaged)


def test_parameters() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in FaceEmbedding().parameters()) == 43_797_696


def test_crop() -> None:
    """Windows of the pooling are 2 or 3 pixels wide: the means of a ramp show the crop and the windows."""
    ramp = (torch.arange(256.0) - 32).expand(1, 1, 256, 256)
    assert crop_face(ramp)[0, 0, 0, :6].tolist() == [0.5, 2.0, 4.0, 5.5, 7.0, 9.0]
    assert crop_face(ramp.mT)[0, 0, :2, 0].tolist() == [3.5, 5.0]
    assert crop_face(torch.zeros(2, 3, 1024, 1024)).shape == (2, 3, 112, 112)
