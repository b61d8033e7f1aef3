"""Compact records through the pipeline: verified on write, resumed, compressed afterwards, and old ones still read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flows.render import render_latents
from ganinv.codes.code import Code, LowRank
from ganinv.errors import ConfigError, RunConflict
from ganinv.generators.files import open_generator
from ganinv.records import RecordConfig, table_to_code
from ganinv.store import Collection, open_store
from tasks.engine import Engine, open_pools
from tasks.sources import DatasetRef
from tasks.steps.compress import CompressJob, run_compress
from tasks.steps.evaluate import EvaluateJob, run_evaluate
from tasks.steps.invert import InvertJob, run_invert
from tasks.steps.report import ReportJob, run_report

INLINE = Engine(kind="inline", quiet=True)
METHOD = """
name: short-pti
summary: Encode with e4e, then tune for a few steps
space: w+
batch_size: 2
stages:
  - {kind: encode, encoder: e4e}
  - {kind: tune, steps: 2, lr: 0.004}
"""


def invert_job(store: Path, faces: Path, images: int = 4, **more: Any) -> InvertJob:
    method = faces.parent / "short-pti.yaml"
    method.write_text(METHOD)
    more = {"method": str(method), "unit_size": 2} | more
    return InvertJob(store=str(store), dataset=DatasetRef(url=str(faces), limit=images), **more)


def run(step: Any, job: Any) -> dict[str, Any]:
    with open_pools(INLINE) as pools:
        result: dict[str, Any] = step(job, pools)
    return result


def hashes(collection: Collection) -> dict[str, str]:
    """Every part and every extras object; timings differ."""
    files = [*Path(collection.url).glob("part-*.parquet"), *Path(collection.url).glob("extras/*")]
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(files)}


@pytest.fixture(scope="module")
def tuned(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with four inversions that have dense weight deltas, in two units. Not to be changed."""
    folder = tmp_path_factory.mktemp("tuned") / "store"
    assert run(run_invert, invert_job(folder, faces))["rows"] == 4
    return folder


@pytest.fixture
def store(tuned: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(tuned, tmp_path / "store"))


INVERT = """
import sys
from tasks.engine import Engine, open_pools
from tasks.steps.invert import InvertJob, run_invert
with open_pools(Engine(kind="inline", quiet=True)) as pools:
    run_invert(InvertJob.model_validate_json(sys.argv[1]), pools)
"""

RENDER_AGAIN = """
import json, sys
from ganinv.data import open_dataset
from ganinv.generators.files import open_generator
from ganinv.losses.distance import between, open_distance
from ganinv.records import table_to_code
from ganinv.store import open_store
url, name, faces = sys.argv[1:]
store, g = open_store(url), open_generator()
distance = open_distance("embedded", g)
found = {}
for image_id in store.latents[name].read(["image_id"])["image_id"].to_pylist():
    image = open_dataset(faces).load([image_id], g.resolution).images
    rendered = g.render(table_to_code(store.latents[name].read(ids=[image_id]), store))
    gap = between(distance.features(rendered), distance.features(image))
    found[image_id] = [float((rendered - image).square().mean()), float(gap)]
print(json.dumps(found))
"""


def rendered_again(store: Path, name: str, faces: Path) -> dict[str, list[float]]:
    """(mse, distance) of each image, by another process that has only the store."""
    arguments = [sys.executable, "-c", RENDER_AGAIN, str(store), name, str(faces)]
    found: dict[str, list[float]] = json.loads(subprocess.run(arguments, check=True, capture_output=True).stdout)
    return found


def stored_numbers(store: Path, name: str) -> dict[str, list[float]]:
    table = open_store(str(store)).latents[name].read(["image_id", "stored_mse", "stored_distance"])
    return {row["image_id"]: [row["stored_mse"], row["stored_distance"]] for row in table.to_pylist()}


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("record", "form"),
    [
        (RecordConfig(), "float16"),
        pytest.param(
            RecordConfig(form="low-rank", dtype="int8", error=0.4, max_rise=None),
            "low-rank int8",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_is_recorded_is_what_another_process_renders(
    tuned: Path, faces: Path, tmp_path: Path, record: RecordConfig, form: str
) -> None:
    folder = tuned
    if record != RecordConfig():
        folder = tmp_path / "s"
        run(run_invert, invert_job(folder, faces, 2, record=record))
    recorded = stored_numbers(folder, "short-pti")
    again = rendered_again(folder, "short-pti", faces)
    assert recorded.keys() == again.keys()
    for image_id, numbers in recorded.items():
        assert numbers == pytest.approx(again[image_id], rel=1e-4)
    table = open_store(str(folder)).latents["short-pti"].read()
    assert set(table["stored_form"].to_pylist()) == {form}
    own, stored = (np.array(table[c].to_pylist()) for c in ("distance", "stored_distance"))
    rise = np.abs(stored / own - 1).max()
    assert rise < 1e-3 if form == "float16" else 1e-4 < rise < 0.5  # it is the stored form that was measured


@pytest.mark.seconds
def test_w_alone_is_stored_exactly(faces: Path, tmp_path: Path) -> None:
    run(run_invert, invert_job(tmp_path, faces, method="e4e"))
    table = open_store(str(tmp_path)).latents["e4e"].read()
    assert table["stored_mse"].to_pylist() == table["mse"].to_pylist()
    assert table["stored_distance"].to_pylist() == table["distance"].to_pylist()
    assert table["stored_form"].null_count == 4


@pytest.mark.seconds
def test_a_unit_that_is_computed_again_has_equal_bytes(store: Path, faces: Path) -> None:
    collection = open_store(str(store)).latents["short-pti"]
    before = hashes(collection)
    assert len(before) == 2 + 4
    (store / "latents/short-pti/part-00001.parquet").unlink()
    (store / "latents/short-pti/_manifest.json").unlink()
    for image_id in collection.plan().units[1].ids:
        (store / f"latents/short-pti/extras/{image_id}.safetensors").unlink()
    assert run(run_invert, invert_job(store, faces))["units_computed"] == 1
    assert hashes(collection) == before


@pytest.mark.seconds
def test_killed_in_the_middle_of_a_unit(tuned: Path, faces: Path, tmp_path: Path) -> None:
    job = invert_job(tmp_path / "store", faces)
    driver = subprocess.Popen([sys.executable, "-c", INVERT, job.model_dump_json()], start_new_session=True)
    first, deadline = tmp_path / "store/latents/short-pti/part-00000.parquet", time.monotonic() + 300
    while not first.exists() and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(driver.pid, signal.SIGKILL)  # the second unit has begun, and takes seconds
    assert driver.wait() == -signal.SIGKILL
    collection = open_store(str(tmp_path / "store")).latents["short-pti"]
    assert collection.done() == {0}
    assert run(run_invert, job)["units_computed"] == 1
    whole = open_store(str(tuned)).latents["short-pti"]
    assert hashes(collection) == hashes(whole)


@pytest.mark.seconds
def test_another_record_is_another_run(store: Path, faces: Path) -> None:
    with pytest.raises(RunConflict, match=r"record\.dtype is 'float16' there, 'int8' now"):
        run(run_invert, invert_job(store, faces, record=RecordConfig(dtype="int8")))


def as_before(store: Path, units: int) -> None:
    """Make the first units what an older version wrote: without the columns of the stored form."""
    collection = open_store(str(store)).latents["short-pti"]
    for unit in collection.plan().units[:units]:
        table = collection.read(ids=unit.ids).drop_columns(["stored_mse", "stored_distance", "stored_form"])
        collection.write_part(unit.index, table, [], {})
    (store / "latents/short-pti/_manifest.json").unlink()


@pytest.mark.seconds
@pytest.mark.parametrize("units", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_runs_of_older_versions_go_on_and_are_read(store: Path, faces: Path, tmp_path: Path, units: int) -> None:
    as_before(store, units)
    if units == 1:  # a run that the new version goes on with: one part of each kind
        (store / "latents/short-pti/part-00001.parquet").unlink()
    assert run(run_invert, invert_job(store, faces))["units_computed"] == 2 - units
    latents = open_store(str(store)).latents["short-pti"]
    table = latents.read()
    assert table.num_rows == 4
    if units == 1:
        assert table["stored_distance"].null_count == 2
    else:
        assert "stored_distance" not in table.schema.names
    assert run(run_evaluate, EvaluateJob(store=str(store), latents="short-pti"))["latents"]["rows"] == 4
    page = Path(run_report(ReportJob(store=str(store), latents=("short-pti",)))["report"]).read_text()
    assert "short-pti" in page
    assert render_latents(str(store), "short-pti", tmp_path / "png", None, "portraits-64") == 4


@pytest.mark.slow
def test_compress_and_what_it_says(store: Path, faces: Path) -> None:
    root = open_store(str(store))
    before = hashes(root.latents["short-pti"])
    record = RecordConfig(form="low-rank", error=0.2, dtype="int8")
    job = CompressJob(store=str(store), latents="short-pti", name="small", record=record)
    result = run(run_compress, job)
    assert hashes(root.latents["short-pti"]) == before
    table, source = root.latents["small"].read(), root.latents["short-pti"].read()
    assert result["bytes_before"] == sum(source["extras_bytes"].to_pylist())
    assert result["bytes_after"] == sum(table["extras_bytes"].to_pylist()) < 0.4 * result["bytes_before"]
    assert result["forms"] == {"low-rank int8": 4}
    mean = float(np.mean(source["stored_distance"].to_pylist()))
    assert result["distance_before"] == pytest.approx(mean, rel=1e-3)
    assert result["distance_after"] == pytest.approx(mean, rel=0.05)
    assert stored_numbers(store, "small").keys() == {*source["image_id"].to_pylist()}
    for image_id, numbers in stored_numbers(store, "small").items():
        assert numbers == pytest.approx(rendered_again(store, "small", faces)[image_id], rel=1e-4)
        break
    carried = [
        "image_id",
        "w",
        "mse",
        "distance",
        "source_uri",
        "source_sha256",
        "steps",
        "stop_reason",
        "loss",
        "space",
    ]
    assert table.select(carried).equals(source.select(carried))
    code = table_to_code(table, root, [0])
    assert code.weights is not None
    assert any(isinstance(delta, LowRank) for delta in code.weights.values())
    assert run(run_compress, job)["units_computed"] == 0
    # What reads inversions reads these: they can be evaluated, and be part of a report.
    assert run(run_evaluate, EvaluateJob(store=str(store), latents="small"))["latents"]["rows"] == 4
    measured = root.metrics["small"].read()["distance"].to_pylist()
    assert float(np.mean(measured)) == pytest.approx(result["distance_after"], rel=0.1)  # there, images are clamped


@pytest.mark.seconds
def test_compress_resumes_with_equal_bytes(store: Path) -> None:
    job = CompressJob(store=str(store), latents="short-pti", name="small")
    run(run_compress, job)
    small = open_store(str(store)).latents["small"]
    before = hashes(small)
    (store / "latents/small/part-00000.parquet").unlink()
    (store / "latents/small/_manifest.json").unlink()
    assert run(run_compress, job)["units_computed"] == 1
    assert hashes(small) == before
    with pytest.raises(RunConflict, match=r"record\.error"):
        run(run_compress, job.model_copy(update={"record": RecordConfig(form="low-rank", error=0.01)}))


@pytest.mark.seconds
def test_records_that_would_get_worse_are_copied(store: Path) -> None:
    record = RecordConfig(form="low-rank", error=0, max_rank=1, max_rise=1e-4)
    result = run(run_compress, CompressJob(store=str(store), latents="short-pti", name="same", record=record))
    root = open_store(str(store))
    same, source = (root.latents[name].read()["extras_sha256"].to_pylist() for name in ("same", "short-pti"))
    kept = [a == b for a, b in zip(same, source, strict=True)]
    assert any(kept)
    assert result["forms"].get("float16") == sum(kept)
    assert result["distance_after"] <= result["distance_before"] * (1 + 1e-4) + 1e-6


@pytest.mark.seconds
def test_compress_needs_the_images_that_were_inverted(store: Path, faces: Path, tmp_path: Path) -> None:
    copies = Path(shutil.copytree(faces, tmp_path / "copies"))
    run(run_invert, invert_job(tmp_path / "s", copies))
    first, second, *_ = sorted(copies.iterdir())
    first.write_bytes(second.read_bytes())
    result = run(run_compress, CompressJob(store=str(tmp_path / "s"), latents="short-pti", name="small"))
    assert (result["rows"], result["failed"]) == (3, 1)
    (error,) = open_store(str(tmp_path / "s")).latents["small"].errors().to_pylist()
    assert (error["image_id"], error["code"]) == (first.stem, "source_changed")


def test_the_compressed_need_a_name_of_their_own() -> None:
    with pytest.raises(ValueError, match="name of their own"):
        CompressJob(store="x", latents="a", name="a")


@pytest.mark.seconds
def test_a_strip_needs_edits(tuned: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        render_latents(str(tuned), "short-pti", tmp_path, None, "portraits-64", strip=True)


@pytest.mark.seconds
def test_edits_share_the_weights_of_their_image(tuned: Path) -> None:
    """One image's extras beside many latents give what each latent gives alone."""
    g, root = open_generator(), open_store(str(tuned))
    code = table_to_code(root.latents["short-pti"].read(), root, [0])
    codes = [code, code.with_w(code.w + 0.1), code.with_w(g.w_mean.expand_as(code.w))]
    together = Code.cat(codes)
    assert together.weights is not None
    assert {len(delta) for delta in together.weights.values() if isinstance(delta, torch.Tensor)} == {1}
    for image, one in zip(g.render(together), codes, strict=True):
        torch.testing.assert_close(image, g.render(one)[0], atol=1e-5, rtol=0)


@pytest.mark.seconds
def test_an_inversion_goes_on_from_stored_codes(tmp_path: Path, faces: Path) -> None:
    """The second half alone, from stored codes, is the whole method; an image without a code is an error of its own."""
    encode = faces.parent / "only-e4e.yaml"
    encode.write_text("{name: only-e4e, summary: x, space: w+, stages: [{kind: encode, encoder: e4e}]}")
    tune = faces.parent / "only-tune.yaml"
    tune.write_text(
        "{name: only-tune, summary: x, space: w+, batch_size: 2, stages: [{kind: tune, steps: 2, lr: 0.004}]}"
    )
    store = open_store(str(tmp_path))
    run(run_invert, invert_job(tmp_path, faces, name="whole"))
    run(run_invert, invert_job(tmp_path, faces, images=3, name="started", method=str(encode)))
    second = invert_job(tmp_path, faces, name="gone-on", method=str(tune), start="started")
    counts = run(run_invert, second)
    assert (counts["rows"], counts["failed"]) == (3, 1)
    (failed,) = store.latents["gone-on"].errors().to_pylist()
    assert failed["code"] == "no_start"
    whole, gone_on = (store.latents[name].read().sort_by("image_id") for name in ("whole", "gone-on"))
    ids = gone_on["image_id"].to_pylist()
    kept = [i in ids for i in whole["image_id"].to_pylist()]
    np.testing.assert_allclose(np.array(whole["mse"])[kept], np.array(gone_on["mse"]), rtol=1e-3)
