"""``fill``: any method, masks from anywhere; what is known stays to the bit, and a mask without a hole is a row of errors."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from torch import Tensor

from flows import cli
from ganinv.codes.code import Code
from ganinv.data.holes import HolesConfig, at_resolution
from ganinv.editing.filling import blanked, composite, eight_bits, known_error, levelled, seam
from ganinv.errors import ConfigError, DataError
from ganinv.generators.files import open_generator, save_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.files import save_inverter
from ganinv.store import Plan, open_store
from tasks.engine import Engine, open_pools
from tasks.steps.fill import FillJob, run_fill, write_pictures
from tests.contracts.inverters import World
from tests.tiny import random_w, tiny_generator


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator of 32 pixels, three images of it, masks, and a method of a few steps in a store."""
    folder = tmp_path_factory.mktemp("fill")
    g = tiny_generator()
    save_generator(g, str(folder / "generator"))
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    images = eight_bits(g.render(Code(w=random_w(g, 3, seed=8))))
    for number, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"images/{number}.png")
        box(number).save(folder / f"masks/{number}.png")
    stages = [{"kind": "optimize", "space": "w+", "steps": 3, "latent_noise": 0.0, "loss": {"distance_weight": 0.0}}]
    method = {"name": "few", "summary": "a test", "space": "w+", "distance": "mse", "stages": stages}
    (folder / "few.yaml").write_text(yaml.safe_dump(method))
    return folder


def box(number: int) -> Image.Image:
    """White where pixels are missing."""
    mask = np.zeros((32, 32), np.uint8)
    mask[4:20, 6 + number : 16] = 255
    return Image.fromarray(mask)


def filled(root: Path, **other: Any) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What a run says, and its rows by id."""
    name = other.setdefault("name", f"run-{len(list((root / 'store').rglob('plan.json')))}")
    given = {
        "store": str(root / "store"),
        "dataset": {"url": str(root / "images")},
        "generator": str(root / "generator"),
        "method": str(root / "few.yaml"),
        "masks": str(root / "masks"),
        **other,
    }
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        result = run_fill(FillJob.model_validate(given), pools)
    rows = open_store(str(root / "store")).latents[name].read().to_pylist()
    return result, {row["image_id"]: row for row in rows}


def picture(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.seconds
def test_known_pixels_stay_to_the_bit_and_the_hole_is_the_rendering_at_their_level(root: Path) -> None:
    result, rows = filled(root)
    assert result["rows"] == len(rows) == 3
    g = open_generator(str(root / "generator"))
    for number in range(3):
        row = rows[str(number)]
        original, whole = np.asarray(Image.open(root / f"images/{number}.png")), picture(row["image_png"])
        hole = np.asarray(box(number)) > 0
        assert np.array_equal(picture(row["hole_png"]) > 0, hole)
        assert np.array_equal(whole[~hole], original[~hole])
        code = Code(w=torch.tensor(row["w"]).reshape(1, g.num_ws, g.w_dim))
        missing = torch.tensor(hole).float()[None, None]
        drawn = eight_bits(levelled(as_tensor(original), g.render(code), missing))[0].permute(1, 2, 0).numpy()
        assert np.array_equal(whole[hole], drawn[hole])
        assert row["hole_share"] == pytest.approx(hole.mean())
        expected = float(known_error(as_tensor(original), g.render(code), torch.tensor(hole).float()[None, None]))
        assert row["known_mse"] == pytest.approx(expected, rel=1e-3)
        assert row["seam"] > 0
    assert result["known_mse"] == pytest.approx(np.mean([row["known_mse"] for row in rows.values()]))


def as_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 127.5 - 1


@pytest.mark.seconds
def test_what_stands_in_a_hole_changes_nothing(root: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    image = np.asarray(Image.open(root / "images/0.png")).copy()
    image[np.asarray(box(0)) > 0] = 255
    Image.fromarray(image).save(tmp_path / "images/0.png")
    _, one = filled(root, dataset={"url": str(root / "images/0.png")}, name="as-it-was", seed=0)
    _, two = filled(root, dataset={"url": str(tmp_path / "images/0.png")}, name="spoilt", seed=0)
    assert one["0"]["image_png"] == two["0"]["image_png"]


@pytest.mark.seconds
def test_masks_of_files_that_mark_what_is_known(root: Path, tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(255 - np.asarray(box(number))).save(tmp_path / f"{number}.png")
    _, white = filled(root)
    _, black = filled(root, masks=str(tmp_path), missing="black")
    assert {i: row["image_png"] for i, row in white.items()} == {i: row["image_png"] for i, row in black.items()}


@pytest.mark.seconds
def test_transparency_says_what_is_missing(root: Path, tmp_path: Path) -> None:
    for number in range(3):
        image = Image.open(root / f"images/{number}.png").convert("RGBA")
        if number < 2:
            image.putalpha(Image.fromarray(255 - np.asarray(box(number))))
        image.convert("RGBA" if number < 2 else "RGB").save(tmp_path / f"{number}.png")
    _, rows = filled(root, dataset={"url": str(tmp_path)}, masks="alpha", name="transparent")
    assert sorted(rows) == ["0", "1"]
    assert np.array_equal(picture(rows["1"]["hole_png"]) > 0, np.asarray(box(1)) > 0)
    (error,) = open_store(str(root / "store")).latents["transparent"].errors().to_pylist()
    assert error["code"] == "mask"
    assert "no transparency that could say what is missing" in error["message"]


@pytest.mark.seconds
@pytest.mark.parametrize("kind", ["strokes", "free-form"])
def test_holes_that_are_drawn_are_of_the_image_and_the_seed(root: Path, kind: str) -> None:
    share = {"share": [0.1, 0.5]} if kind == "free-form" else {}
    _, rows = filled(root, masks=kind, **share)
    _, again = filled(root, masks=kind, unit_size=1, **share)
    _, other = filled(root, masks=kind, seed=1, **share)
    holes = {i: row["hole_png"] for i, row in rows.items()}
    assert holes == {i: row["hole_png"] for i, row in again.items()}
    assert all(holes[i] != row["hole_png"] for i, row in other.items())
    assert len(set(holes.values())) == 3
    if share:
        assert all(0.1 < row["hole_share"] < 0.5 for row in rows.values())


@pytest.mark.seconds
def test_masks_that_are_no_holes_are_rows_of_errors(root: Path, tmp_path: Path) -> None:
    Image.new("L", (32, 32), 0).save(tmp_path / "0.png")
    Image.new("L", (32, 32), 255).save(tmp_path / "1.png")
    box(0).resize((64, 64)).save(tmp_path / "2.png")
    result, rows = filled(root, masks=str(tmp_path), name="none")
    assert not rows
    assert result["failed"] == 3
    errors = open_store(str(root / "store")).latents["none"].errors().to_pylist()
    messages = {error["image_id"]: error["message"] for error in errors}
    assert [error["code"] for error in errors] == ["mask_nothing", "mask_all", "mask_size"]  # counted apart
    assert "covers nothing: there is no hole to fill" in messages["0"]
    assert "covers everything: nothing is left to start from" in messages["1"]
    assert "the mask has 64x64 pixels and the image 32x32: they must have the same size" in messages["2"]
    (tmp_path / "2.png").unlink()
    filled(root, masks=str(tmp_path), name="fewer")
    errors = open_store(str(root / "store")).latents["fewer"].errors().to_pylist()
    assert "has no mask of this id" in next(e["message"] for e in errors if e["image_id"] == "2")


def test_what_no_hole_can_come_of_is_refused_before_the_run_begins(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothere"):
        filled(root, masks=str(tmp_path / "nothere"), name="refused")
    with pytest.raises(
        ConfigError, match="'blur' covers no pixels: masks may be drawn as strokes, free-form, triangle"
    ):
        filled(root, masks="blur", name="refused")
    with pytest.raises(ValueError, match="share is of masks: free-form, not of 'strokes'"):
        filled(root, masks="strokes", share=[0.1, 0.2], name="refused")
    assert not open_store(str(root / "store")).latents["refused"].exists()


@pytest.mark.seconds
def test_an_inverter_that_sees_holes_is_shown_them(root: Path, tmp_path: Path) -> None:
    world = World(tmp_path)
    inverter = world.inverter("invertfill")
    save_generator(world.generator, str(tmp_path / "generator"))
    save_inverter(inverter, str(tmp_path / "mine"), generator=world.generator)
    stages = [{"kind": "encode", "encoder": str(tmp_path / "mine")}]
    (tmp_path / "seen.yaml").write_text(
        yaml.safe_dump({"name": "seen", "summary": "a test", "space": "w+", "distance": "mse", "stages": stages})
    )
    _, rows = filled(root, method=str(tmp_path / "seen.yaml"), name="seen", blend="none")
    images = torch.cat([as_tensor(np.asarray(Image.open(root / f"images/{n}.png"))) for n in range(3)])
    holes = torch.stack([torch.from_numpy(np.asarray(box(n)).copy()) > 0 for n in range(3)])[:, None].float()
    expected = world.generator.render(inverter(images, holes=holes))
    unseen = world.generator.render(inverter(blanked(images, holes)))
    for number in range(3):
        hole = holes[number, 0] > 0
        drawn = torch.from_numpy(picture(rows[str(number)]["image_png"]).copy()).permute(2, 0, 1)[:, hole].float()
        far = (drawn - eight_bits(expected[number])[:, hole].float()).abs().max()
        assert far <= 2  # features are stored in float16; the picture is of the code itself
        assert (drawn - eight_bits(unseen[number])[:, hole].float()).abs().max() > far


@pytest.mark.seconds
def test_from_the_command_line(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        *("fill", str(root / "images"), "--store", str(tmp_path / "store"), "--masks", str(root / "masks")),
        *("--generator", str(root / "generator"), "--method", str(root / "few.yaml"), "--engine", "inline"),
        *("--out", str(tmp_path / "out"), "--json"),
    ]
    monkeypatch.setattr(sys, "argv", ["ganinv", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    captured = capsys.readouterr()
    assert not stop.value.code, captured.err
    result = json.loads(captured.out)
    assert result["collection"] == "latents/few-filled"
    assert result["pictures"] == 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png", "2.png"]


def test_no_picture_leaves_its_folder(tmp_path: Path) -> None:
    collection = open_store(str(tmp_path / "store")).latents["x"]
    ids = ["../out", "/out", "a/b"]
    collection.start(Plan.of("invert", {}, {}, ids, 3))
    collection.write_part(0, pa.table({"image_id": ids, "image_png": [b"1", b"2", b"3"]}), [], {})
    assert write_pictures(collection, tmp_path / "filled/here") == 3
    assert sorted(p.name for p in (tmp_path / "filled/here").iterdir()) == [
        "%2Fout.png",
        "..%2Fout.png",
        "a%2Fb.png",
    ]
    assert [p.name for p in (tmp_path / "filled").iterdir()] == ["here"]


def test_a_composite_and_how_its_border_is_judged() -> None:
    images = torch.linspace(-1, 1, 16).expand(1, 3, 16, 16).contiguous()
    holes = torch.zeros(1, 1, 16, 16)
    holes[..., 4:12, 4:12] = 1
    perfect = composite(images, images, holes)
    assert torch.equal(perfect, eight_bits(images))
    assert float(seam(perfect, holes)) == pytest.approx(1.0, abs=0.05)
    shifted = composite(images, images + 0.5, holes)
    assert float(seam(shifted, holes)) > 2
    assert float(known_error(images, images + 0.5, holes)) == pytest.approx(0.25)
    assert torch.isnan(seam(perfect, torch.zeros(1, 1, 16, 16))).all()
    grey = blanked(torch.where(holes > 0, torch.ones(()), torch.zeros(())).expand(1, 3, 16, 16), holes)
    assert not grey.any()


def test_a_pixel_of_a_mask_that_is_marked_in_part_is_marked() -> None:
    mask = np.zeros((64, 96), np.uint8)
    mask[10, 40] = 255
    hole = at_resolution(Image.fromarray(mask), 16)
    assert hole.sum() == 1
    assert hole[10 // 4, (40 - 16) // 4]
    assert HolesConfig(masks="free-form", share=(0.1, 0.2)).drawn is not None
    assert isinstance(tiny_generator(), Generator)


@pytest.mark.parametrize("side", [16, 45])
def test_a_filling_comes_to_the_level_of_the_image_at_the_border(side: int) -> None:
    rng = torch.Generator().manual_seed(4)
    images = F.interpolate(torch.rand(2, 3, 5, 5, generator=rng), size=(side, side), mode="bicubic").clamp(0, 1) - 0.5
    tint = torch.linspace(-0.4, 0.4, side)[None, None, :, None] + torch.tensor([0.2, 0.0, -0.2])[None, :, None, None]
    holes = torch.zeros(2, 1, side, side)
    holes[0, :, side // 4 : -side // 4, side // 4 : -side // 4] = 1
    holes[1, :, :, : side // 2] = 1  # reaches the edge of the image
    rendered = images + tint
    filled = levelled(images, rendered, holes)
    inside = (filled - images).abs()[0][:, holes[0, 0] > 0]
    assert float(inside.max()) < 0.02  # a plane is continued as a plane
    there = holes[1, 0] > 0
    assert float((filled - images)[1][:, there].abs().mean()) < 0.6 * float(
        (rendered - images)[1][:, there].abs().mean()
    )
    assert torch.equal(filled[holes.expand_as(filled) == 0], rendered[holes.expand_as(filled) == 0])
    alone = levelled(images[1:], rendered[1:], holes[1:])
    assert torch.equal(alone, filled[1:])
    whole = composite(images, filled, holes)
    assert bool((seam(whole, holes) < seam(composite(images, rendered, holes), holes)).all())


def test_an_image_of_which_nothing_is_known_is_the_rendering() -> None:
    rendered = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(levelled(torch.zeros_like(rendered), rendered, torch.ones(1, 1, 8, 8)), rendered)
