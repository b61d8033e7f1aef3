"""Images that change under their names, through every step: no row of an old content is passed off as of the new one."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from ganinv.directions.direction import Direction
from ganinv.generators.files import open_generator
from ganinv.store import open_store
from ganinv.store.tensors import tensor_numpy
from tasks.engine import Engine, open_pools
from tasks.sources import DatasetRef
from tasks.steps.edit import EditJob, EditSpec, run_edit
from tasks.steps.evaluate import EvaluateJob, run_evaluate
from tasks.steps.invert import InvertJob, run_invert

INLINE = Engine(kind="inline", quiet=True)


def run(step: Any, job: Any) -> Any:
    with open_pools(INLINE) as pools:
        return step(job, pools)


@pytest.fixture
def world(tmp_path: Path, faces: Path) -> Path:
    """Three faces in a folder, and a direction in a store."""
    (tmp_path / "data").mkdir()
    for name, path in zip("abc", sorted(faces.iterdir()), strict=False):
        shutil.copy(path, tmp_path / f"data/{name}.png")
    g = open_generator()
    vector = np.random.default_rng(0).normal(size=g.w_dim)
    named: dict[str, Any] = {
        "generator_name": g.name,
        "generator_fingerprint": g.fingerprint,
        "method": "t",
        "unit": 2.0,
    }
    store = open_store(str(tmp_path / "store"))
    store.directions.put(Direction("smile", vector / np.linalg.norm(vector), space="w", **named))
    return tmp_path


def invert(world: Path, **more: Any) -> Any:
    fields = {"store": f"{world}/store", "dataset": DatasetRef(url=f"{world}/data"), "method": "e4e", "unit_size": 2}
    return run(run_invert, InvertJob.model_validate(fields | more))


def steps_after(world: Path) -> list[int]:
    """Units that were computed of the edits, the metrics, and the metrics of edits."""
    spec = EditSpec(name="smile", directions={"smile": 1}, strengths=(1.0,))
    edited = run(run_edit, EditJob(store=f"{world}/store", latents="e4e", edits=(spec,)))
    measured = run(run_evaluate, EvaluateJob(store=f"{world}/store", latents="e4e", edits="edits"))
    return [result["units_computed"] for result in (edited, *measured.values())]


def rows(world: Path, path: str) -> dict[str, Any]:
    table: pa.Table = open_store(f"{world}/store").collection(*path.split("/")).read()
    return {row["image_id"]: row for row in table.to_pylist()}


def w_of(world: Path, path: str) -> dict[str, np.ndarray]:
    table = open_store(f"{world}/store").collection(*path.split("/")).read()
    return dict(zip(table["image_id"].to_pylist(), tensor_numpy(table["w"]), strict=True))


@pytest.mark.seconds
def test_a_new_photo_under_an_old_name_is_computed_again_in_every_step(world: Path, faces: Path) -> None:
    invert(world)
    assert steps_after(world) == [1, 2, 1]
    latents, edits, metrics = w_of(world, "latents/e4e"), w_of(world, "edits/edits"), rows(world, "metrics/e4e")
    shutil.copy(sorted(faces.iterdir())[3], world / "data/a.png")
    result = invert(world)
    assert (result["changed"], result["moved"], result["units_computed"], result["rows"]) == (1, 0, 1, 3)
    row = rows(world, "latents/e4e")["a"]
    assert row["source_sha256"] == hashlib.sha256((world / "data/a.png").read_bytes()).hexdigest()
    after = w_of(world, "latents/e4e")
    assert not np.array_equal(after["a"], latents["a"])
    assert all(np.array_equal(after[i], latents[i]) for i in "bc")
    assert steps_after(world) == [1, 1, 1]
    edited, measured = w_of(world, "edits/edits"), rows(world, "metrics/e4e")
    assert not np.array_equal(edited["a"], edits["a"])
    assert np.array_equal(edited["b"], edits["b"])
    assert measured["a"]["mse"] != metrics["a"]["mse"]
    assert measured["b"]["mse"] == metrics["b"]["mse"]
    assert (invert(world)["units_computed"], steps_after(world)) == (0, [0, 0, 0])


@pytest.mark.seconds
def test_a_changed_image_is_an_error_row_where_that_is_asked_for(world: Path, faces: Path) -> None:
    invert(world)
    steps_after(world)
    shutil.copy(sorted(faces.iterdir())[3], world / "data/b.png")
    for _ in range(2):
        result = invert(world, changed="error")
        assert (result["rows"], result["failed"], result["units_computed"]) == (2, 1, 0)
    (error,) = open_store(f"{world}/store").latents["e4e"].errors().to_pylist()
    assert (error["image_id"], error["code"], error["attempts"]) == ("b", "changed", 1)
    steps_after(world)
    assert [sorted(rows(world, path)) for path in ("edits/edits", "metrics/e4e")] == [["a", "c"]] * 2
    result = invert(world)
    assert (result["rows"], result["failed"], result["units_computed"]) == (3, 0, 1)
    steps_after(world)
    assert [sorted(rows(world, path)) for path in ("edits/edits", "metrics/e4e")] == [["a", "b", "c"]] * 2


@pytest.mark.seconds
def test_a_touched_file_is_the_same_image(world: Path) -> None:
    invert(world)
    data = (world / "data/a.png").read_bytes()
    (world / "data/a.png").write_bytes(data)
    (world / "data/c.png").rename(world / "data/renamed.png")
    result = invert(world)
    assert (result["changed"], result["moved"], result["units_computed"], result["rows"]) == (0, 1, 0, 3)
    assert {i: Path(row["source_uri"]).name for i, row in rows(world, "latents/e4e").items()} == {
        "a": "a.png",
        "b": "b.png",
        "c": "renamed.png",
    }


@pytest.mark.seconds
def test_a_code_of_another_image_is_no_start(world: Path, faces: Path) -> None:
    """It had the same id once. The images of a run are distinguished by their content."""
    invert(world)
    shutil.copy(sorted(faces.iterdir())[3], world / "data/a.png")
    method = world / "go-on.yaml"
    stage = "{kind: optimize, space: w+, start: code, steps: 1}"
    method.write_text(f"name: go-on\nsummary: one more step\nspace: w+\nstages:\n  - {stage}\n")
    result = invert(world, method=str(method), start="e4e")
    assert (result["rows"], result["failed"]) == (2, 1)
    (error,) = open_store(f"{world}/store").latents["go-on"].errors().to_pylist()
    assert (error["image_id"], error["code"]) == ("a", "no_start")


@pytest.mark.seconds
def test_damaged_colour_profiles_are_counted(world: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Image.open(world / "data/a.png") as image:
        image.save(world / "data/a.png", icc_profile=b"no profile")
    assert invert(world)["ignored"] == {"colour profile": 1}
    assert "the colour profile of 1 images is damaged" in caplog.text
