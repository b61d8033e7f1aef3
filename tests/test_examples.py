"""The examples run, and write the pictures they promise."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from PIL import Image

from ganinv.editing.embedding import EmbeddingConfig
from ganinv.generators.files import open_generator
from ganinv.methods.hyperstyle import HyperStyle, HyperStyleConfig
from ganinv.methods.padinv import PadInv, PadInvConfig
from ganinv.methods.w import WEncoder, WEncoderConfig
from tests.contracts.inverters import disturbed

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(autouse=True)
def beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``python examples/name.py`` has it."""
    monkeypatch.syspath_prepend(str(EXAMPLES))


@pytest.mark.slow
def test_image2stylegan_plus_plus(tmp_path: Path) -> None:
    example = runpy.run_path(str(EXAMPLES / "image2stylegan_plus_plus.py"))
    example["run"](tmp_path, EmbeddingConfig(steps=3, noise_steps=1))
    pictures = {"reconstruction": 6, "crossover": 3, "inpainting": 3, "local-style": 3, "scribble": 3, "activations": 4}
    assert {path.stem for path in tmp_path.glob("*.png")} == set(pictures)
    for name, count in pictures.items():
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.size == (count * 256, 16 + 256)


@pytest.mark.slow
def test_padinv(tmp_path: Path) -> None:
    g = open_generator("portraits-64")
    config = PadInvConfig.for_generator(g, {"encoder": {"base_channels": 8, "pyramid_channels": 8}})
    encoder = disturbed(PadInv(PadInvConfig.model_validate(config), g), 1)
    runpy.run_path(str(EXAMPLES / "padinv.py"))["run"](tmp_path, g, encoder)
    pictures = {"reconstruction": 4, "structure-transfer": 3, "style-transfer": 3, "pair": 4}
    assert {path.stem for path in tmp_path.glob("*.png")} == set(pictures)
    for name, count in pictures.items():
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.size == (count * 256, 256)


@pytest.mark.slow
def test_hyperstyle_domain(tmp_path: Path) -> None:
    g = open_generator("portraits-64")
    sizes = {"base_channels": 8, "pyramid_channels": 8}
    shape = WEncoderConfig.for_generator(g, {"backbone": "small", **sizes})
    encoder = disturbed(WEncoder(WEncoderConfig.model_validate(shape), g), 1)
    config = HyperStyleConfig.for_generator(g, {"trunk": "small", "code_dim": 4, "steps": 1, **sizes})
    hyperstyle = disturbed(HyperStyle(HyperStyleConfig.model_validate(config), g, {"w_encoder": encoder}), 2)
    example = runpy.run_path(str(EXAMPLES / "hyperstyle_domain.py"))
    target = example["fine_tuned"](g, steps=1, batch=1)
    moved = [n for n, p in target.synthesis.named_parameters() if not torch.equal(p, g.synthesis.get_parameter(n))]
    assert moved
    assert all(int(name.split(".")[1]) >= 2 for name in moved)
    example["run"](tmp_path, g, target, hyperstyle)
    for name in ("portrait-astronaut", "portrait-grace-hopper"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.size == (5 * 256, 256)
