"""Every method of configs/methods on the embedded generator, two steps of each stage; VGG16 and AlexNet have random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ganinv.codes.code import Code
from ganinv.config import config_names
from ganinv.errors import ConfigError, WeightsRefused
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.distance import open_distance
from ganinv.methods.files import open_inverter
from ganinv.stages.method import Inversion, load_method, method_config
from ganinv.target import Target
from tests.losses.vgg_file import random_alexnet, random_vgg16, write_hub
from tests.tiny import random_w

WEIGHTS = {"vgg16-397923af.pth": random_vgg16, "alexnet-owt-7be5be79.pth": random_alexnet}


@pytest.fixture(scope="module")
def g() -> Generator:
    return open_generator(EMBEDDED)


@pytest.fixture(scope="module")
def target(g: Generator) -> Target:
    return Target(g.render(Code(w=random_w(g, 1, seed=3))))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where torch looks for the weights, written once."""
    folder = tmp_path_factory.mktemp("hub")
    for file, weights in WEIGHTS.items():
        write_hub(folder, weights(), file)
    return folder


def short(name: str, g: Generator, target: Target, steps: int = 2) -> Inversion:
    """The method with ``steps`` steps in each stage that makes any."""
    changes: dict[int, dict[str, Any]] = {}
    for i, stage in enumerate(method_config(name).stages):
        given = stage.model_dump(mode="json")
        if "optimize" in given:
            changes[i] = {"optimize": given["optimize"] | {"steps": steps}}
        elif given.get("steps"):
            changes[i] = {"steps": steps}
    return load_method(name, g, stages=changes, batch_size=1).invert(target)


def distances(config: Any) -> set[str]:
    """All that a configuration measures with."""
    if isinstance(config, list | tuple):
        return set().union(*map(distances, config))
    if not isinstance(config, dict):
        return set()
    own = {config["distance"]} if config.get("distance") else set()
    return own.union(*map(distances, config.values()))


def absent(name: str, g: Generator) -> set[str]:
    """The method's distances that cannot be opened here."""
    found = set()
    for distance in distances(method_config(name).model_dump(mode="json")):
        try:
            open_distance(distance, g)
        except ConfigError:
            found.add(distance)
    return found


def shipped(name: str, g: Generator) -> bool:
    try:
        open_inverter(name, generator=g)
    except WeightsRefused:
        return False
    return True


@pytest.mark.seconds
@pytest.mark.parametrize("name", config_names("methods"))
def test_every_method_runs_and_says_what_is_missing(
    name: str, g: Generator, target: Target, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    if untrained := [each for each in method_config(name).inverters if not shipped(each, g)]:
        recipe = f"ganinv train portraits-64-{untrained[0]}$"
        with pytest.raises(WeightsRefused, match=recipe):
            short(name, g, target)
        return
    if needs := absent(name, g):
        assert needs <= {"lpips-vgg", "lpips-alex", "vgg16-features"}
        with pytest.raises(
            ConfigError, match=f"({'|'.join(needs)}) needs the torchvision weights ({'|'.join(WEIGHTS)})"
        ):
            short(name, g, target)
        monkeypatch.setenv("TORCH_HOME", str(hub))
    result = short(name, g, target)
    assert result.error == [None]
    stages = method_config(name).stages
    if not any(s.kind in ("segment", "joint-segments") for s in stages):
        assert len(result.loss[0]) == 2 * sum(s.kind in ("optimize", "tune") for s in stages)
    assert np.isfinite(result.loss[0]).all()
    keeps_noise = any(s.kind == "optimize" and s.noise_maps is not None and s.noise_maps.keep for s in stages)
    assert (result.code.noise is not None) == keeps_noise  # the projector's is dropped
    assert ("psnr_plain" in result.metrics) == keeps_noise
    assert not torch.equal(result.code.w[0, 0], g.w_mean)


def test_published_settings() -> None:
    (stage,) = method_config("image2stylegan-paper").stages
    assert (stage.space, stage.steps, stage.lr, stage.latent_noise) == ("w+", 5000, 0.01, 0.0)
    assert stage.lr_factor(0.0) == stage.lr_factor(0.99) == 1.0
    (stage,) = method_config("w-projection-paper").stages
    assert (stage.space, stage.steps, stage.lr, stage.latent_noise) == ("w", 1000, 0.1, 0.05)
    assert stage.noise_maps.regularization == 1e5
    assert stage.loss.distance_resolution == 256
    _, stage = method_config("in-domain").stages
    assert (stage.steps, stage.lr, stage.loss.domain.weight) == (100, 0.01, 2.0)


def test_the_encoder_knows_its_own_images(g: Generator) -> None:
    """Identity on generated images: E(G(w)) is closer to w than to another latent."""
    encoder = open_inverter("e4e", generator=g)
    z = torch.randn(16, g.z_dim, generator=torch.Generator().manual_seed(0))
    w = g.map(z, truncation_psi=0.7)
    with torch.no_grad():
        found = encoder(g.render(Code(w=w))).w
    own, other = (found - w).flatten(1).norm(dim=1), (found - w.roll(1, 0)).flatten(1).norm(dim=1)
    assert (own < 0.7 * other).all()
