"""Methods of configs/methods on the embedded generator, a few steps of each; those that need VGG16 get random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ganinv.codes.code import Code
from ganinv.errors import ConfigError
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.files import open_inverter
from ganinv.stages.method import Inversion, load_method, method_config
from ganinv.target import Target
from tests.losses.vgg_file import random_vgg16, write_hub
from tests.tiny import random_w

NEED_VGG = {"image2stylegan-paper": "vgg16-features", "w-projection-paper": "lpips-vgg"}
HERE = ("image2stylegan", "image2stylegan-hierarchical", "image2stylegan-plus-plus", "in-domain")


@pytest.fixture(scope="module")
def g() -> Generator:
    return open_generator(EMBEDDED)


@pytest.fixture(scope="module")
def target(g: Generator) -> Target:
    return Target(g.render(Code(w=random_w(g, 1, seed=3))))


def tried(name: str, g: Generator, target: Target, steps: int = 2) -> Inversion:
    stages = {i: {"steps": steps} for i, s in enumerate(method_config(name).stages) if s.kind == "optimize"}
    return load_method(name, g, stages=stages, batch_size=1).invert(target)


@pytest.mark.parametrize("name", HERE)
def test_runs_without_a_download(name: str, g: Generator, target: Target) -> None:
    result = tried(name, g, target)
    assert result.error == [None]
    assert len(result.loss[0]) == 2 * sum(s.kind == "optimize" for s in method_config(name).stages)
    assert (result.code.noise is not None) == (name == "image2stylegan-plus-plus")
    assert ("psnr_plain" in result.metrics) == (name == "image2stylegan-plus-plus")


@pytest.mark.seconds
@pytest.mark.parametrize("name", sorted(NEED_VGG))
def test_runs_with_weights_and_says_what_is_missing(
    name: str, g: Generator, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=f"{NEED_VGG[name]} needs the torchvision weights vgg16-397923af.pth"):
        tried(name, g, target)
    write_hub(tmp_path, random_vgg16())
    result = tried(name, g, target)
    assert result.error == [None]
    assert result.code.plain  # the projector's noise is dropped
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
