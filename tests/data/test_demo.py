from __future__ import annotations

import socket
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from ganinv.data import demo_dataset, open_dataset
from ganinv.errors import DataError


@pytest.mark.parametrize("frame", ["framed", "tight"])
def test_the_demo_has_its_pictures_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frame: Literal["framed", "tight"]
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the demo must not need the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    dataset = open_dataset(str(demo_dataset(tmp_path / "demo", size=128, small_faces=frame)))
    assert len(dataset) == 102
    assert dataset.ids[:3] == ["portrait-astronaut", "portrait-grace-hopper", "small-face-000"]
    batch = dataset.load(dataset.ids, 64)
    assert batch.errors == []
    assert len(set(batch.sha256)) == 102
    portrait, small = batch.images[0], batch.images[2]
    assert (portrait[0] - portrait[2]).abs().mean() > 0.1
    assert (small[0] == small[2]).all()
    assert len((tmp_path / "demo" / "SOURCES.txt").read_text().splitlines()) == 102


def test_the_demo_writes_the_same_twice(tmp_path: Path) -> None:
    folders = [demo_dataset(tmp_path / name, size=64) for name in ("one", "two")]
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert first == second


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="Choose another folder"):
        demo_dataset(tmp_path / "file")


@pytest.mark.seconds
def test_portraits_are_upright(tmp_path: Path) -> None:
    """In the astronaut's portrait both eyes, at FFHQ's places, are darker than the cheeks below."""
    image = open_dataset(str(demo_dataset(tmp_path))).load(["portrait-astronaut"], 128).images[0].mean(0).numpy()
    eyes, cheeks = image[56:64, [46, 47, 48, 79, 80, 81]], image[68:76, [46, 47, 48, 79, 80, 81]]
    assert np.mean(eyes) < np.mean(cheeks) - 0.1
