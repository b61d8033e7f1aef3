"""A store to look at, and photos to bring."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganinv.directions.direction import Direction
from ganinv.generators.files import open_generator
from ganinv.store import open_store
from tasks.engine import Engine, open_pools
from tasks.jobs.dataset import DatasetRef
from tasks.steps.invert import InvertJob, run_invert
from tests.artefacts import made_once

METHODS = ("e4e", "sfe-refined")


def make_store(folder: Path, pictures: Path) -> None:
    """Four images by an encoder into W+ and by a method that stores features, and two directions."""
    g, store = open_generator(), open_store(str(folder / "store"))
    w = g.map(torch.randn(512, g.z_dim, generator=torch.Generator().manual_seed(0)))[:, 0]
    _, size, axes = torch.linalg.svd(w - w.mean(0), full_matrices=False)
    for k, name in enumerate(("mood", "pca-00")):  # the largest ways in which samples differ: every step of them shows
        unit = float(size[k]) / len(w) ** 0.5
        store.directions.put(Direction(name, axes[k].numpy(), "w", g.name, g.fingerprint, "test", unit=unit))
    other = np.eye(1, g.w_dim)[0]
    store.directions.put(Direction("foreign", other, "w", "other", "0" * 64, "test"))
    few = DatasetRef(url=str(pictures), limit=4)  # two portraits, and two small grey faces
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        for method in METHODS:
            run_invert(InvertJob(store=store.url, dataset=few, method=method), pools)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, demo_pictures: Path) -> Path:
    """The store's folder, to be read; it stays where it was made, since its rows say where their photos are."""
    return made_once(tmp_path_factory, "studio", lambda folder: make_store(folder, demo_pictures))


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A store to write to."""
    return Path(shutil.copytree(made / "store", tmp_path / "store"))


def portrait(flip: bool = False) -> bytes:
    """A JPEG of 512 x 512 pixels with a person in it who takes up a part of it; mirrored, somebody else's."""
    import skimage.data

    image = Image.fromarray(skimage.data.astronaut())
    buffer = io.BytesIO()
    (image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
