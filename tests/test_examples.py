"""The examples run, and write the pictures they promise."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from PIL import Image

from ganinv.editing.embedding import EmbeddingConfig

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.seconds
def test_image2stylegan_plus_plus(tmp_path: Path) -> None:
    example = runpy.run_path(str(EXAMPLES / "image2stylegan_plus_plus.py"))
    example["run"](tmp_path, EmbeddingConfig(steps=3, noise_steps=1))
    pictures = {"reconstruction": 6, "crossover": 3, "inpainting": 3, "local-style": 3, "scribble": 3, "activations": 4}
    assert {path.stem for path in tmp_path.glob("*.png")} == set(pictures)
    for name, count in pictures.items():
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.size == (count * 256, 16 + 256)
