"""What a visitor of the studio can do, without a browser."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.studio.desk import Desk, Studio
from flows.studio.opening import open_studio
from flows.studio.saving import words
from ganinv.editing import Edit
from ganinv.errors import ConfigError, GaninvError, StoreError
from ganinv.records import CodeReader
from ganinv.store import open_store

from .conftest import portrait

pytestmark = pytest.mark.seconds


@pytest.fixture(scope="module")
def studio(made: Path) -> Studio:
    """To look only."""
    return open_studio(str(made / "store"))


@pytest.fixture
def own(place: Path) -> Studio:
    """To write with."""
    return open_studio(str(place))


def difference(a: Image.Image, b: Image.Image) -> float:
    return float(np.abs(np.asarray(a, float) - np.asarray(b, float)).mean())


def test_shelf_has_what_is_of_the_generator(studio: Studio) -> None:
    assert studio.shelf.collections() == ["e4e", "sfe-refined"]
    assert list(studio.shelf.directions) == ["age", "gender", "glasses", "mood", "smile", "yaw", "pca-00"]
    # what has a name first, the shipped ones among them; not that of another generator
    assert studio.inverting.default == "sfe-editor"
    assert {"e4e", "sfe", "sfe-editor"} <= set(studio.inverting.at_once)
    assert "pti" in studio.inverting.on_request


def test_pages_are_filtered_and_ordered(studio: Studio) -> None:
    page = studio.page("e4e", "image_id ~ portrait", "mse", descending=True)
    assert page.total == 2
    values = dict(zip(*(studio.shelf.rows("e4e")[c].to_pylist() for c in ("image_id", "mse")), strict=True))
    assert values[page.ids[0]] > values[page.ids[1]]
    assert page.captions[0].startswith(f"{page.ids[0]} · mse 0.")
    assert studio.page("e4e", at=99).number == 0
    assert studio.page("e4e", "mse < 0").line == "no row meets these conditions"
    assert [tile.size for tile in studio.shelf.thumbnails("e4e", page.ids)] == [(128, 128)] * 2


@pytest.mark.parametrize("name", ["e4e", "sfe-refined"])
def test_a_slider_renders_what_the_code_reader_does(studio: Studio, name: str) -> None:
    desk = studio.choose(Desk(), name, "portrait-astronaut")
    photo, plain, edited = studio.stage(desk, {"mood": 1.5})
    assert photo.picture is not None
    assert photo.picture.size == (256, 256)
    assert plain.picture is not None
    assert edited.picture is not None
    g, latents = studio.shelf.generator, studio.shelf.store.latents[name]
    reader = CodeReader(studio.shelf.store, latents, g)
    code = reader.codes(latents.read(ids=["portrait-astronaut"]))
    moved = reader.after_edit(
        desk.on_table().photo, code, Edit({"mood": 1.5}).apply(code, studio.shelf.store, g.fingerprint)
    )
    expected = ((g.render(moved)[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    assert np.abs(np.asarray(edited.picture, int) - expected.astype(int)).max() <= 1
    assert difference(plain.picture, edited.picture) > 2
    assert edited.note == "mood +1.5"
    assert studio.stage(desk, {"mood": 0.0})[2].picture == plain.picture


def test_methods_are_compared_on_the_same_photo(studio: Studio) -> None:
    desk = studio.choose(Desk(), "e4e", "portrait-astronaut")
    shown = studio.compare(desk, {})
    assert [each.title for each in shown] == ["Photo", "e4e", "sfe-refined"]
    assert all("mse 0." in each.note for each in shown[1:])


def test_nothing_chosen_yet(studio: Studio) -> None:
    for action in (studio.stage, studio.compare, studio.paste, studio.save):
        with pytest.raises(ConfigError, match=r"first$"):
            action(Desk(), {"mood": 1.0})
    with pytest.raises(ConfigError, match="bring a photo first"):
        studio.invert_by(Desk(), "e4e")
    chosen = studio.choose(Desk(), "e4e", "small-face-000")
    with pytest.raises(ConfigError, match="there is the crop alone"):
        studio.paste(chosen, {"mood": 1.0})
    with pytest.raises(ConfigError, match="move a slider first"):
        studio.save(chosen, {"mood": 0.0})


def test_a_photo_is_aligned_inverted_refined_edited_and_pasted(studio: Studio) -> None:
    pytest.importorskip("dlib")
    desk = studio.bring(Desk(), portrait(), "C:\\photos\\anna smiles.jpg", "face")
    subject = desk.on_table()
    assert subject.image_id.startswith("anna-smiles-")
    assert subject.picture is not None
    assert subject.picture.size == (256, 256)
    assert subject.method == "sfe-editor"
    tuned = studio.invert_by(desk, "sfe-refined")  # the cheapest of those that optimise
    assert tuned.on_table().method == "sfe-refined"
    assert tuned.on_table().facts["mse"] < subject.facts["mse"]  # type: ignore[operator]
    assert [each.title for each in studio.compare(tuned, {"mood": 1.0})] == ["Photo", "sfe-refined", "sfe-editor"]
    whole, data = studio.paste(tuned, {"mood": 1.0})
    assert whole.size == (512, 512)
    assert data.startswith(b"\x89PNG")
    before, after = np.asarray(desk.upload.photo, int), np.asarray(whole, int)  # type: ignore[union-attr]
    assert np.abs(before - after)[0:200, 150:300].max() > 20  # the face
    assert np.array_equal(before[300:], after[300:])  # the suit
    assert np.array_equal(before, np.asarray(studio.paste(tuned, {})[0], int))


@pytest.mark.parametrize(
    ("data", "name", "said"),
    [
        (b"just words, and no picture", "notes.jpg", "the file is none of"),
        (b"", "empty.png", "no bytes"),
        (portrait()[:2000], "cut.jpg", "ends before the image does|cut or damaged"),
        (b"P6 12000 12000 255\n" + bytes(64), "large.ppm", "at most 64000000 are read"),
        (b"<html></html>", "photo.jpg", "a web page or XML"),
    ],
)
def test_files_that_are_no_photo(studio: Studio, data: bytes, name: str, said: str) -> None:
    with pytest.raises(GaninvError, match=said):
        studio.bring(Desk(), data, name, "whole")


def test_a_photo_without_a_face_says_so(studio: Studio) -> None:
    pytest.importorskip("dlib")
    import io

    buffer = io.BytesIO()
    Image.fromarray(np.full((300, 300, 3), 90, np.uint8)).save(buffer, "PNG")
    with pytest.raises(GaninvError, match="found no face"):
        studio.bring(Desk(), buffer.getvalue(), "wall.png", "face")
    assert studio.bring(Desk(), buffer.getvalue(), "wall.png", "whole").upload is not None


def test_two_who_bring_photos_at_once_do_not_mix(studio: Studio) -> None:
    def visit(flip: bool) -> tuple[Desk, Image.Image | None]:
        desk = Desk()
        for _ in range(2):
            desk = studio.bring(desk, portrait(flip), "photo.jpg", "whole")
            edited = studio.stage(desk, {"mood": -1.0 if flip else 1.0})[2].picture
        return desk, edited

    alone = [visit(False), visit(True)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(visit, [False, True]))
    for (first, picture), (second, same) in zip(alone, together, strict=True):
        assert first.on_table().image_id == second.on_table().image_id
        assert picture == same
    assert together[0][0].on_table().image_id != together[1][0].on_table().image_id


@pytest.mark.parametrize("name", ["e4e", "sfe-refined"])
def test_an_edit_is_saved_as_a_row_that_renders_the_same(own: Studio, name: str) -> None:
    desk = own.choose(Desk(), name, "portrait-astronaut")
    _, said = own.save(desk, {"mood": 1.5, "pca-00": 0.0})
    assert said == f"Saved mood +1.5 of portrait-astronaut as a row of edits/studio-{name}"
    own.save(desk, {"mood": -0.5, "pca-00": 1.0})
    own.save(desk, {"mood": 1.5})  # the same again takes its own place
    own.save(own.choose(desk, name, "small-face-000"), {"mood": 0.5})
    store = open_store(own.shelf.store.url)
    edits = store.edits[f"studio-{name}"]
    table = edits.read()
    rows = list(zip(table["image_id"].to_pylist(), table["edit"].to_pylist(), strict=True))
    assert sorted(rows) == [
        ("portrait-astronaut", "mood@1=-0.5,pca-00@1=1"),
        ("portrait-astronaut", "mood@1=1.5"),
        ("small-face-000", "mood@1=0.5"),
    ]
    g = own.shelf.generator
    code = CodeReader(store, edits, g).codes(table, [rows.index(("portrait-astronaut", "mood@1=1.5"))])
    stored = ((g.render(code)[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    shown = own.stage(desk, {"mood": 1.5})[2].picture
    assert np.abs(np.asarray(shown, int) - stored.astype(int)).max() <= 2  # features are stored in float16
    assert edits.manifest() is not None


def test_a_brought_photo_becomes_a_row_of_latents_when_its_edit_is_saved(own: Studio) -> None:
    desk = own.bring(Desk(), portrait(), "anna.jpg", "whole")
    assert own.shelf.collections() == ["e4e", "sfe-refined"]  # nothing is written before
    desk, said = own.save(desk, {"mood": 1.0})
    assert said.endswith("as a row of edits/studio-sfe-editor")
    own.save(desk, {"mood": 2.0})
    own.save(own.bring(desk, portrait(flip=True), "anna.jpg", "whole"), {"mood": 1.0})
    assert "studio-sfe-editor" in own.shelf.collections()
    page = own.page("studio-sfe-editor")
    assert page.total == 2
    again = own.choose(desk, "studio-sfe-editor", desk.on_table().image_id)
    plain, edited = own.stage(again, {"mood": 1.0})[1:]
    assert difference(plain.picture, desk.on_table().plain) < 1  # type: ignore[arg-type]
    assert difference(edited.picture, own.stage(desk, {"mood": 1.0})[2].picture) < 1  # type: ignore[arg-type]
    assert own.shelf.store.edits["studio-sfe-editor"].read().num_rows == 3


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder that this process cannot write to, under any user."""
    where = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in where:
        path.chmod(0o555)
    root = os.geteuid() == 0
    try:
        if root:  # whom rights do not stop
            for parent in folder.parents[:-1]:
                if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o005:
                    parent.chmod(parent.stat().st_mode | 0o005)
            os.seteuid(65534)
        yield
    finally:
        if root:
            os.seteuid(0)
        for path in where:
            path.chmod(0o755)


def test_a_store_that_is_read_only_says_so(own: Studio, place: Path) -> None:
    desk = own.choose(Desk(), "e4e", "portrait-astronaut")
    brought = own.bring(Desk(), portrait(), "anna.jpg", "whole")
    for each in (desk, brought):
        with read_only(place), pytest.raises(StoreError) as refused:
            own.save(each, {"mood": 1.0})
        said = words(refused.value, own.shelf)
        assert said.startswith("This store cannot be written to")
        assert str(place) not in said
    assert own.stage(desk, {"mood": 1.0})[2].picture is not None


def test_messages_name_no_place_of_the_server(own: Studio, place: Path) -> None:
    with pytest.raises(GaninvError) as refused:
        own.choose(Desk(), "e5e", "anna")
    assert str(place) in str(refused.value)
    assert str(place) not in words(refused.value, own.shelf)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("cannot be opened at /home/anna/encoders/w.pt: no", "cannot be opened at …/w.pt: no"),
        ("not in file:///srv/photos any more", "not in …/photos any more"),
        ("W/W+ and 3/4 of 'mse', s3://bucket/a/b/c.png", "W/W+ and 3/4 of 'mse', …/c.png"),
        ("/a.png is none", "/a.png is none"),
    ],
)
def test_folders_of_other_places_are_left_out(studio: Studio, said: str, told: str) -> None:
    assert words(ConfigError(said), studio.shelf) == told


def test_an_inversion_whose_photo_is_gone_is_shown(own: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own.shelf, "_photos", lambda *given: {})
    desk = own.choose(Desk(), "e4e", "portrait-astronaut")
    shown = own.stage(desk, {})
    assert shown[0].picture is None
    assert shown[1].picture is not None
    assert own.shelf.thumbnails("e4e", ["portrait-astronaut"])[0] == shown[1].picture


def test_a_store_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing in the store"):
        open_studio(str(tmp_path / "typo"))
