"""Distances: LPIPS against the original, the embedded default, cached features."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ganinv.codes.code import Code
from ganinv.config import validate
from ganinv.errors import ConfigError
from ganinv.losses.distance import DISTANCES, LpipsDistance, between, open_distance
from ganinv.stages.objective import ReconstructionLoss
from tests.tiny import random_w, tiny_generator


def closed_form(spec: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Tensors of a golden JSON by its rule (splitmix64 of crc32 and index)."""
    state = {}
    for key, entry in spec["tensors"].items():
        count = int(np.prod(entry["shape"]))
        salted = f"{spec['salt']}:{key}".encode()
        x = (np.uint64(zlib.crc32(salted)) << np.uint64(32)) + np.arange(count, dtype=np.uint64)
        with np.errstate(over="ignore"):
            z = x + np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(31))
        v = 2 * (z >> np.uint64(40)).astype(np.float64) / 2**24 - 1
        values = (entry["a"] + entry["b"] * v).astype(entry["dtype"].removeprefix("torch."))
        state[key] = torch.from_numpy(values.reshape(entry["shape"]))
    return state


@pytest.mark.seconds
@pytest.mark.parametrize("net", ["alex", "squeeze", pytest.param("vgg", marks=pytest.mark.slow)])
def test_lpips_equals_the_original(shared: Path, tmp_path: Path, net: str) -> None:
    spec = json.loads((shared / f"golden/losses/lpips_{net}.json").read_text())
    golden = np.load(shared / f"golden/losses/lpips_{net}.npz")
    torch.save(closed_form(spec), tmp_path / "backbone.pth")
    distance = LpipsDistance(net, backbone=tmp_path / "backbone.pth")

    def images(key: str) -> torch.Tensor:
        return torch.from_numpy(golden[key]).permute(0, 3, 1, 2).float() / 127.5 - 1

    a, b = images("image_a_u8").requires_grad_(True), images("image_b_u8")
    value = between(distance.features(a), distance.features(b))
    want = torch.from_numpy(golden["distance"]).flatten()
    torch.testing.assert_close(value, want, atol=1e-5, rtol=1e-4)
    (gradient,) = torch.autograd.grad(value.sum(), a)
    torch.testing.assert_close(gradient, torch.from_numpy(golden["grad_a"]), atol=1e-5, rtol=1e-3)


def test_lpips_without_its_backbone_says_where_it_belongs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"lpips-alex needs the torchvision weights alexnet-owt-7be5be79.pth in"):
        open_distance("lpips-alex", tiny_generator())


def test_embedded_distance() -> None:
    g = tiny_generator()
    distance = open_distance("embedded", g)
    assert distance.name == "embedded"
    images = g.render(Code(w=random_w(g, 3)))
    features = distance.features(images)
    assert between(features, distance.features(images)).abs().max() == 0
    other = distance.features(images.flip(0))
    apart = between(features, other)
    assert (apart[[0, 2]] > 0).all()
    assert apart[1] == 0  # the middle image met itself
    alone = between(distance.features(images[:1]), distance.features(images[2:]))
    torch.testing.assert_close(alone[0], apart[0], rtol=1e-4, atol=1e-6)


def test_the_style_of_a_discriminator_needs_one() -> None:
    """Features have a stand-in (test_choosing.py); their Gram matrices, which are asked for by name, have none."""
    g = tiny_generator()
    g.discriminator = None
    with pytest.raises(ConfigError, match="needs the discriminator of generator 'tiny'"):
        open_distance("gram-embedded", g)


class Brightness:
    """A distance from outside the package: of mean brightness."""

    name = "brightness"

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [images.mean((1, 2, 3))[:, None]]


def test_a_distance_that_is_registered_is_one_of_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ConfigError, match=r"distance: .*unknown distance 'brightness'; there are: auto, embedded, lpips-alex"
    ):
        validate(ReconstructionLoss, {"distance": "brightness"}, "a loss")
    monkeypatch.setattr(DISTANCES, "_homes", dict(DISTANCES._homes))
    DISTANCES.register("brightness", lambda generator: Brightness())
    loss = validate(ReconstructionLoss, {"distance": "brightness"}, "a loss")
    assert "brightness" in ReconstructionLoss.model_json_schema()["properties"]["distance"]["enum"]
    distance = open_distance(loss.distance, tiny_generator())
    dark, light = torch.zeros(2, 3, 8, 8), torch.full((2, 3, 8, 8), 0.5)
    torch.testing.assert_close(between(distance.features(dark), distance.features(light)), torch.full((2,), 0.25))
    with pytest.raises(ConfigError, match="did you mean 'brightness'"):
        open_distance("brightnes", tiny_generator())
