"""``ganinv retouch``: a photo through align, invert, edit and paste, in one command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import skimage.data
from PIL import Image
from typer.testing import CliRunner

from flows.cli import app
from ganinv.directions.direction import Direction
from ganinv.errors import ConfigError, DataError
from ganinv.generators.files import open_generator
from ganinv.store import open_store

HEAD = "image_id,left_eye_x,left_eye_y,right_eye_x,right_eye_y,mouth_left_x,mouth_left_y,mouth_right_x,mouth_right_y"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """An astronaut, where her eyes and mouth are, and a store that knows a direction."""
    Image.fromarray(skimage.data.astronaut()).save(tmp_path / "astronaut.png")
    points = "astronaut,203.2,100.8,246.8,102.8,205.0,140.4,243.6,141.6"
    (tmp_path / "points.csv").write_text(f"{HEAD}\n{points}\n")
    g = open_generator("portraits-64")
    vector = np.full(g.w_dim, g.w_dim**-0.5, np.float32)
    about = {"method": "test", "generator_name": g.name, "generator_fingerprint": g.fingerprint, "unit": 2.0}
    open_store(str(tmp_path / "store")).directions.put(Direction("smile", vector, "w", **about))
    return tmp_path / "astronaut.png"


def retouched(words: list[str]) -> dict[str, Any]:
    """What the command prints as JSON when it is carried out."""
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return cast("dict[str, Any]", json.loads(done.stdout))


def retouch(photo: Path, *more: str) -> list[str]:
    folder = photo.parent
    points = ["--landmarks", str(folder / "points.csv")]
    return ["retouch", str(photo), "--store", str(folder / "store"), "--out", str(folder / "out"), *points, *more]


@pytest.mark.seconds
def test_a_photo_in_one_command(photo: Path) -> None:
    words = retouch(photo, "--edit", "smile=2", "--edit", "smile=-1", "--method", "e4e", "--engine", "inline", "--json")
    result = retouched(words)
    assert "fit" not in result, "the store had the direction"
    assert result["pictures"] == 2
    before = np.asarray(Image.open(photo))
    for name in ("astronaut@smile=2.png", "astronaut@smile=-1.png"):
        after = np.asarray(Image.open(photo.parent / "out" / name))
        assert after.shape == before.shape
        differs = (after != before).any(-1)
        assert 0.01 < differs.mean() < 0.2
        assert not differs[300:].any()
    again = retouched(words)
    assert {step: again[step]["units_computed"] for step in ("align", "invert", "edit", "paste")} == dict.fromkeys(
        ("align", "invert", "edit", "paste"), 0
    )


@pytest.mark.seconds
def test_a_fresh_store_takes_the_directions_that_ship(photo: Path) -> None:
    words = retouch(photo, "--edit", "smile@0=2", "--edit", "age=1", "--method", "e4e", "--engine", "inline", "--json")
    result = retouched(words)
    assert not {"sample", "fit"} & set(result)
    assert result["edit"]["shipped_directions"] == ["age", "smile"]
    edits = open_store(str(photo.parent / "store")).edits[result["edit"]["collection"].partition("/")[2]]
    assert edits.provenance()["directions"] == ["age@0", "smile@0"]
    assert edits.read(["edit"])["edit"].to_pylist() == ["smile@0=2", "age=1"]


@pytest.mark.parametrize(("edit", "message"), [("smiel=1", ", did you mean 'smile'?"), ("pose=1", "; those that can")])
def test_a_direction_that_no_fit_makes_is_refused_before_one(photo: Path, edit: str, message: str) -> None:
    words = retouch(photo, "--edit", edit, "--engine", "inline")
    refused = CliRunner().invoke(app, words)
    assert isinstance(refused.exception, ConfigError)
    assert f"there is no direction '{edit[:-2]}' in " in str(refused.exception)
    assert message in str(refused.exception)
    assert "samples" not in open_store(str(photo.parent / "store")).list("samples")


def test_a_landmark_table_beside_another_detector(photo: Path) -> None:
    words = retouch(photo, "--edit", "smile=2", "--detector", "centre", "--engine", "inline")
    refused = CliRunner().invoke(app, words)
    assert isinstance(refused.exception, ConfigError)
    assert "--landmarks takes the place of a detector: omit --detector centre" in str(refused.exception)


def test_a_file_in_the_way_is_told_before_anything_is_computed(photo: Path) -> None:
    words = retouch(photo, "--edit", "smile=2", "--engine", "inline")
    words[words.index("--out") + 1] = str(photo / "out")
    refused = CliRunner().invoke(app, words)
    assert isinstance(refused.exception, ConfigError)
    assert f"cannot write into {photo}/out: {photo} is a file. Choose another folder with --out" in str(
        refused.exception
    )
    assert open_store(str(photo.parent / "store")).list("aligned") == []


@pytest.mark.seconds
def test_photos_without_a_face_say_why(photo: Path) -> None:
    (photo.parent / "points.csv").write_text(f"{HEAD}\nsomebody,203,100,246,102,205,140,243,141\n")
    refused = CliRunner().invoke(app, retouch(photo, "--edit", "smile=2", "--engine", "inline"))
    assert isinstance(refused.exception, DataError)
    assert str(refused.exception).startswith(
        "no photo has a face that can be used, so the steps after align are left out"
    )
    assert "  1 no_landmarks, such as " in str(refused.exception)
