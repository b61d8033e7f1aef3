"""``align`` and ``paste`` as steps: rows, reasons, resuming, and what the steps between make of them."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image, ImageFilter

from ganinv.directions.direction import Direction
from ganinv.errors import ConfigError, DataError, RunConflict, StoreError
from ganinv.generators.files import open_generator, save_generator
from ganinv.store import Store, open_store
from tasks.engine import Engine, open_pools
from tasks.steps.align import AlignJob, aligned, run_align
from tasks.steps.edit import EditJob, EditSpec, run_edit
from tasks.steps.invert import InvertJob, run_invert
from tasks.steps.paste import PasteJob, run_paste, write_pasted
from tests.data.pictures import noise
from tests.tiny import tiny_generator

HEAD = "image_id,left_eye_x,left_eye_y,right_eye_x,right_eye_y,mouth_left_x,mouth_left_y,mouth_right_x,mouth_right_y"
FACE = (90, 80, 130, 82, 94, 122, 128, 123)
"""Eyes and mouth of a face in a photo of 220x200."""


def row(image_id: str, shift: float = 0.0, scale: float = 1.0) -> str:
    return ",".join([image_id, *(str(value * scale + shift) for value in FACE)])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Good photos, files that are not photos, and the landmarks of most."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(("anna", "bert", "carl")):
        noise(220, 200, seed=number).filter(ImageFilter.GaussianBlur(2)).save(folder / f"{name}.png")
    (folder / "text.jpg").write_text("no photo")
    noise(220, 200, seed=9).save(folder / "outside.png")
    noise(220, 200, seed=8).save(folder / "nobody.png")
    noise(220, 200, seed=7).save(folder / "tiny.png")
    rows = [row("anna"), row("bert"), row("bert", -20, 0.6), row("carl", 60), row("outside", 4000), row("tiny", 0, 0.1)]
    (tmp_path / "points.csv").write_text("\n".join([HEAD, *rows]))
    return folder


def align(photos: Path, **other: Any) -> tuple[dict[str, Any], Store]:
    """The run's result, and the store."""
    table = {"kind": "landmarks", "table": str(photos.parent / "points.csv")}
    given = {
        "store": str(photos.parent / "store"),
        "dataset": {"url": str(photos)},
        "detector": table,
        "size": 64,
        **other,
    }
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        return run_align(AlignJob.model_validate(given), pools), open_store(given["store"])


def errors(store: Store, name: str = "faces") -> dict[str, str]:
    return {each["image_id"]: each["code"] for each in aligned(store, name).errors().to_pylist()}


def test_every_photo_is_a_row_or_a_reason(photos: Path) -> None:
    result, store = align(photos)
    rows = aligned(store, "faces").read().to_pylist()
    assert [each["face_id"] for each in rows] == ["anna", "bert", "carl"]
    reasons = {"nobody": "no_landmarks", "outside": "bad_landmarks", "text": "not_an_image", "tiny": "too_small"}
    assert errors(store) == reasons
    assert (result["rows"], result["failed"]) == (3, 4)
    first = rows[0]
    assert (first["width"], first["height"], first["size"]) == (220, 200, 64)
    assert (first["detector"], first["outside"]) == ("landmarks", 0)
    assert len(first["landmarks"]) == 4
    assert first["side"] == pytest.approx(np.hypot(*np.subtract(first["quad"][3], first["quad"][0])), abs=0.01)
    crop = Image.open(io.BytesIO(first["image_png"]))
    assert crop.size == (64, 64)
    assert rows[2]["outside"] > 0.1  # its face is at the photo's rim
    origin = aligned(store, "faces").provenance()
    assert origin["detector"] == "landmarks"
    assert len(origin["detector_version"]) == 12


def test_all_faces_are_rows_of_their_own(photos: Path) -> None:
    _, store = align(photos, faces="all", name="everybody")
    rows = aligned(store, "everybody").read().to_pylist()
    assert [(each["image_id"], each["face_id"], each["face"]) for each in rows if each["image_id"] == "bert"] == [
        ("bert", "bert", 0),
        ("bert", "bert~face2", 1),
    ]
    _, store = align(photos, faces="single", name="single")
    assert errors(store, "single")["bert"] == "several_faces"
    assert "anna" in aligned(store, "single").read()["face_id"].to_pylist()


@pytest.mark.seconds
def test_fifty_faces(photos: Path) -> None:
    crowd = noise(1100, 1000, seed=3)
    crowd.save(photos / "crowd.png")
    places = [(x * 100, y * 180) for x in range(10) for y in range(5)]
    lines = [",".join(["crowd", *(str(v * 0.4 + (x, y)[n % 2]) for n, v in enumerate(FACE))]) for x, y in places]
    (photos.parent / "points.csv").write_text("\n".join([HEAD, *lines]))
    _, store = align(photos, faces="all")
    ids = aligned(store, "faces").read()["face_id"].to_pylist()
    assert len(ids) == len(set(ids)) == 50


def test_photos_that_came_and_changed_are_aligned_and_the_others_stay(photos: Path) -> None:
    _, store = align(photos)
    before = {each["face_id"]: each["image_png"] for each in aligned(store, "faces").read().to_pylist()}
    again, _ = align(photos)
    assert again["units_computed"] == 0
    noise(220, 200, seed=20).save(photos / "anna.png")
    noise(220, 200, seed=21).save(photos / "nobody2.png")
    result, _ = align(photos)
    after = {each["face_id"]: each["image_png"] for each in aligned(store, "faces").read().to_pylist()}
    assert result["changed"] == 1
    assert errors(store)["nobody2"] == "no_landmarks"
    assert {face for face in before if before[face] != after[face]} == {"anna"}


def test_photos_turned_by_exif_are_upright(photos: Path) -> None:
    shown = Image.open(photos / "anna.png")
    stored = shown.transpose(Image.Transpose.ROTATE_90)
    stored.getexif()[0x0112] = 6
    stored.save(photos / "bert.png", exif=stored.getexif())
    _, store = align(photos)
    anna, bert = (each for each in aligned(store, "faces").read().to_pylist() if each["face_id"] in ("anna", "bert"))
    assert anna["image_png"] == bert["image_png"]


@pytest.mark.seconds
def test_a_photo_of_a_hundred_megapixels_says_so(photos: Path) -> None:
    Image.new("L", (10_000, 10_000)).save(photos / "huge.png")
    _, store = align(photos)
    (huge,) = (each for each in aligned(store, "faces").errors().to_pylist() if each["image_id"] == "huge")
    assert huge["code"] == "too_large"
    assert "the image has 10000x10000 pixels, at most 64000000 are read: make it smaller" in huge["message"]
    assert aligned(store, "faces").read().num_rows == 3


def test_another_table_is_another_run(photos: Path) -> None:
    align(photos)
    with (photos.parent / "points.csv").open("a") as table:
        table.write("\n" + row("nobody"))
    with pytest.raises(RunConflict, match="detector_file"):
        align(photos)


def test_a_store_that_cannot_be_written(photos: Path) -> None:
    (photos.parent / "store").write_text("a file is in its place")
    with pytest.raises(StoreError, match="store"):
        align(photos)


def test_a_folder_without_photos(photos: Path) -> None:
    with pytest.raises(DataError, match="nothing at"):
        align(photos, dataset={"url": str(photos / "nowhere")})


@pytest.fixture
def world(photos: Path) -> Mapping[str, Any]:
    """Aligned faces, inverted and edited with a generator of 32 pixels."""
    root, g = photos.parent, tiny_generator()
    save_generator(g, str(root / "generator"))
    stages = [{"kind": "optimize", "space": "w+", "steps": 2, "latent_noise": 0.0, "loss": {"distance_weight": 0.0}}]
    method = {"name": "few", "summary": "a test", "space": "w+", "distance": "mse", "stages": stages}
    (root / "few.yaml").write_text(yaml.safe_dump(method))
    result, store = align(photos, faces="all")
    at = {"store": store.url, "generator": str(root / "generator")}
    opened = open_generator(at["generator"])
    vector = np.full(opened.w_dim, opened.w_dim**-0.5, np.float32)
    store.directions.put(
        Direction("smile", vector, "w", method="test", generator_name="tiny", generator_fingerprint=opened.fingerprint)
    )
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        invert = {**at, "method": str(root / "few.yaml"), "dataset": {"url": result["url"]}, "name": "few"}
        inverted = run_invert(InvertJob.model_validate(invert), pools)
        edits = (EditSpec(name="smile", directions={"smile": 1.0}, strengths=(0.0, 2.0, 2.001)),)
        run_edit(EditJob.model_validate({**at, "latents": "few", "edits": edits}), pools)
    assert (inverted["rows"], inverted["failed"]) == (4, 0)
    return {**at, "photos": photos}


def pasted(world: Mapping[str, Any], **other: Any) -> tuple[dict[str, Any], Store]:
    given = {key: world[key] for key in ("store", "generator")}
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        return run_paste(PasteJob.model_validate({**given, **other}), pools), open_store(world["store"])


@pytest.mark.seconds
def test_edits_come_back_into_their_photos(world: Mapping[str, Any], tmp_path: Path) -> None:
    result, store = pasted(world)
    assert (result["rows"], result["failed"]) == (9, 0)
    rows = store.collection("pasted", "edits").read().to_pylist()
    assert {(each["image_id"], each["faces"]) for each in rows} == {("anna", 1), ("bert", 2), ("carl", 1)}
    assert len({each["uri"] for each in rows}) == len(rows)
    assert write_pasted(store, "edits", tmp_path / "out") == len(list((tmp_path / "out").iterdir())) == 9
    photo = np.asarray(Image.open(world["photos"] / "anna.png"), int)
    same = np.asarray(Image.open(tmp_path / "out/anna@smile@+0.png"), int)
    np.testing.assert_array_equal(same, photo)  # an edit of strength 0 changes nothing
    changed = np.asarray(Image.open(tmp_path / "out/anna@smile@+2.png"), int)
    differs = (changed != photo).any(-1)
    assert differs.any()
    quad = np.array(aligned(store, "faces").read(ids=["anna"])["quad"][0].as_py())
    y, x = np.nonzero(differs)
    assert (x >= quad[:, 0].min()).all()
    assert (x <= quad[:, 0].max()).all()
    assert (y >= quad[:, 1].min()).all()
    assert (y <= quad[:, 1].max()).all()
    for each in rows:
        assert each["seam"] <= each["seam_photo"] + 0.5
    crops, _ = pasted(world, mode="crop", name="crops")
    assert crops["rows"] == 9
    again, _ = pasted(world)
    assert again["units_computed"] == 0


@pytest.mark.seconds
def test_edits_whose_crop_or_photo_is_gone(world: Mapping[str, Any]) -> None:
    photos = world["photos"]
    (photos / "anna.png").unlink()
    noise(220, 200, seed=30).save(photos / "bert.png")
    result, store = pasted(world)
    failed = store.collection("pasted", "edits").errors().to_pylist()
    assert {each["image_id"]: each["code"] for each in failed} == {"anna": "missing", "bert": "source_changed"}
    assert all(each["message"].startswith(f"{photos}/{each['image_id']}.png: ") for each in failed)
    assert (result["rows"], result["failed"]) == (3, 2)
    # A collection that was aligned anew, of other photos: the edits of those that are not there have no crop.
    rows = (photos.parent / "points.csv").read_text().splitlines()
    (photos.parent / "points.csv").write_text("\n".join(line for line in rows if not line.startswith("carl")))
    align(photos, name="others")
    result, store = pasted(world, aligned="others", name="without")
    found = {each["image_id"]: each["code"] for each in store.collection("pasted", "without").errors().to_pylist()}
    assert found["carl"] == "no_crop"


@pytest.mark.seconds
def test_edits_of_no_aligned_photos(world: Mapping[str, Any]) -> None:
    given = {key: world[key] for key in ("store", "generator")}
    invert = {**given, "method": str(world["photos"].parent / "few.yaml"), "name": "plain"}
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        url = str(world["photos"] / "anna.png")
        run_invert(InvertJob.model_validate({**invert, "dataset": {"url": url}}), pools)
        edits = (EditSpec(name="smile", directions={"smile": 1.0}, strengths=(1.0,)),)
        run_edit(EditJob.model_validate({**given, "latents": "plain", "edits": edits, "name": "plain"}), pools)
    with pytest.raises(
        ConfigError, match=r"'plain' are of .*anna\.png, not of aligned faces, .*: ganinv align PHOTOS, then"
    ):
        pasted(world, edits="plain")


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on(tmp_path: Path) -> None:
    """kill -9 in the middle: what is done stays byte for byte, and the rest is computed once."""
    pytest.importorskip("dlib", reason="the extra faces is not installed")
    import skimage.data

    folder = tmp_path / "photos"
    folder.mkdir()
    astronaut = Image.fromarray(skimage.data.astronaut())
    for number in range(60):
        astronaut.crop((number, 0, 480 + number % 32, 512)).save(folder / f"{number:02d}.png")
    command = [sys.executable, "-c", "from flows.cli import main; main()", "align", str(folder), "--store"]
    store = tmp_path / "store"
    process = subprocess.Popen([*command, str(store), "--engine", "inline", "--unit-size", "4", "--quiet"])
    deadline = time.monotonic() + 300
    while len(list(store.rglob("part-*.parquet"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path.name: path.read_bytes() for path in store.rglob("part-*.parquet")}
    assert 3 <= len(kept) < 15
    done = subprocess.run(
        [*command, str(store), "--engine", "inline", "--unit-size", "4", "--quiet", "--json"],
        capture_output=True,
        check=True,
    )
    result = json.loads(done.stdout)
    assert result["rows"] == 60
    assert result["units_computed"] == 15 - len(kept)
    assert all((store / "aligned/faces" / name).read_bytes() == data for name, data in kept.items())


def test_a_larger_limit_aligns_more_photos_in_the_same_run(photos: Path) -> None:
    dataset = {"url": str(photos), "limit": 1}
    assert align(photos, dataset=dataset)[0]["rows"] == 1
    again, store = align(photos)
    assert (again["rows"], again["failed"]) == (3, 4)
    assert align(photos, dataset=dataset)[0]["units_computed"] == 0
    assert len(aligned(store, "faces").read()) == 3


@pytest.mark.seconds
def test_photos_that_were_moved_keep_their_rows(photos: Path) -> None:
    result, store = align(photos)
    before = aligned(store, "faces").read(["face_id", "image_png"])
    elsewhere = {"dataset": {"url": str(photos.parent / "elsewhere")}, "store": store.url}
    shutil.copytree(photos, photos.parent / "elsewhere")
    with pytest.raises(RunConflict, match=r"dataset\.url is"):  # a copy is another data set
        align(photos, **elsewhere)
    shutil.rmtree(photos)
    (photos.parent / "elsewhere" / "anna.png").rename(photos.parent / "away")
    with pytest.raises(RunConflict, match=r"dataset\.url is"):  # not all of it is there
        align(photos, **elsewhere)
    (photos.parent / "away").rename(photos.parent / "elsewhere" / "anna.png")
    for _ in range(2):
        again, _ = align(photos, **elsewhere)
        assert (again["rows"], again["failed"], again["units_computed"]) == (result["rows"], result["failed"], 0)
    rows = aligned(store, "faces").read(["face_id", "image_png", "source_uri"])
    assert rows.select(["face_id", "image_png"]).equals(before)
    assert all("/elsewhere/" in uri for uri in rows["source_uri"].to_pylist())
    noise(220, 200, seed=5).save(photos.parent / "elsewhere" / "anna.png")
    assert align(photos, **elsewhere)[0]["changed"] == 1


def test_other_photos_of_the_same_names_are_not_those_that_were_moved(photos: Path) -> None:
    _, store = align(photos)
    photos.rename(photos.parent / "away")
    (photos.parent / "others").mkdir()
    for path in (photos.parent / "away").iterdir():
        noise(220, 200, seed=30).save(photos.parent / "others" / path.name)
    with pytest.raises(RunConflict, match=r"dataset\.url is"):
        align(photos, dataset={"url": str(photos.parent / "others")}, store=store.url)
