from __future__ import annotations

import socket
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from ganinv.data import demo_dataset, open_dataset
from ganinv.data.demo import demo_photos, demo_small_faces
from ganinv.errors import DataError
from ganinv.store import RowError


@pytest.mark.seconds
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


def test_photos_of_the_demo_with_where_eyes_and_mouths_are(tmp_path: Path) -> None:
    """Colour photos as they came, the landmarks that stand in for a detector, and who made them."""
    from ganinv.faces import align, open_detector

    photos = open_dataset(str(demo_photos(tmp_path)))
    assert set(photos.ids) >= {"astronaut", "grace-hopper"}
    given = open_detector("landmarks", table=str(tmp_path / "landmarks.csv"))
    for photo in photos.photos(photos.ids):
        assert not isinstance(photo, RowError)
        assert np.asarray(photo.image, float).std(axis=-1).mean() > 5, "in colour"
        assert align(photo.image, given, size=64, image_id=photo.image_id)[0].face.side > 150
    assert len((tmp_path / "SOURCES.txt").read_text().splitlines()) == len(photos)


def test_small_faces_of_the_demo(tmp_path: Path) -> None:
    small = open_dataset(str(demo_small_faces(tmp_path, count=3)))
    assert small.ids == ["small-face-000", "small-face-001", "small-face-002"]
    assert small.load(small.ids, 64).errors == []
    (tmp_path / "file").write_text("x")
    for write in (demo_photos, demo_small_faces):
        with pytest.raises(DataError, match="Choose another folder"):
            write(tmp_path / "file")


@pytest.mark.seconds
def test_the_demo_writes_the_same_twice(tmp_path: Path) -> None:
    folders = [demo_dataset(tmp_path / name, size=64) for name in ("one", "two")]
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert first == second


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="Choose another folder"):
        demo_dataset(tmp_path / "file")


@pytest.mark.seconds
def test_portraits_are_upright(demo_pictures: Path) -> None:
    """In the astronaut's portrait both eyes, at FFHQ's places, are darker than the cheeks below."""
    image = open_dataset(str(demo_pictures)).load(["portrait-astronaut"], 128).images[0].mean(0).numpy()
    eyes, cheeks = image[56:64, [46, 47, 48, 79, 80, 81]], image[68:76, [46, 47, 48, 79, 80, 81]]
    assert np.mean(eyes) < np.mean(cheeks) - 0.1
