"""A data set that grows, through every step: what is new is computed, and no part of the first run is written again."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ganinv.directions.direction import Direction
from ganinv.errors import RunConflict
from ganinv.generators.files import open_generator, save_generator
from ganinv.store import Plan, Store, open_store
from tasks.engine import Engine, open_pools
from tasks.estimate import estimate
from tasks.same_run import comparable
from tasks.sources import DatasetRef
from tasks.steps.compress import CompressJob, run_compress
from tasks.steps.edit import EditJob, EditSpec, run_edit
from tasks.steps.evaluate import EvaluateJob, run_evaluate
from tasks.steps.fit import FitJob, run_fit
from tasks.steps.invert import InvertJob, plan_invert, run_invert
from tasks.steps.label import LabelJob, run_label
from tasks.steps.report import ReportJob, run_report
from tasks.steps.sample import SampleJob, run_sample
from tasks.steps.train import TrainJob, run_train
from tests.tiny import tiny_generator

INLINE = Engine(kind="inline", quiet=True)
FIRST, CAME = "bdfhjl", "acgz"
GROWING = ("latents/e4e", "latents/small", "labels/e4e", "edits/edits", "metrics/e4e", "edit-metrics/edits")


@pytest.fixture(scope="module")
def pictures(demo_pictures: Path) -> list[Path]:
    return sorted(demo_pictures.rglob("*.png"))


@pytest.fixture
def faces(tmp_path: Path, pictures: list[Path]) -> Callable[[str], None]:
    """Puts faces of these names into ``tmp_path / "data"``."""
    waiting = iter(pictures)
    (tmp_path / "data").mkdir()

    def put(names: str) -> None:
        for name in names:
            shutil.copy(next(waiting), tmp_path / f"data/{name}.png")

    return put


def invert_job(tmp_path: Path, **dataset: Any) -> InvertJob:
    where = DatasetRef(url=str(tmp_path / "data"), **dataset)
    return InvertJob(store=str(tmp_path / "store"), dataset=where, method="e4e", unit_size=2)


def run(step: Any, job: Any) -> Any:
    with open_pools(INLINE) as pools:
        return step(job, pools)


def run_all(tmp_path: Path) -> dict[str, int]:
    """Every step after each other: how many units of each collection were computed."""
    store = str(tmp_path / "store")
    smile = EditSpec(name="smile", directions={"smile": 1}, strengths=(-1, 1))
    results = [
        run(run_invert, invert_job(tmp_path)),
        run(run_compress, CompressJob(store=store, latents="e4e", name="small")),
        run(
            run_label,
            LabelJob(store=store, name="e4e", samples="e4e", source="latents", labeller="portraits-64", unit_size=2),
        ),
        run(run_edit, EditJob(store=store, latents="e4e", edits=(smile,), images="shards")),
        *run(run_evaluate, EvaluateJob(store=store, latents="e4e", edits="edits", similarity="embedded")).values(),
    ]
    return {result["collection"]: result["units_computed"] for result in results}


def files(store: Store) -> dict[str, tuple[bytes, int]]:
    """Every part and side table of the growing collections: its bytes, and when it was written."""
    paths = [path for each in GROWING for path in sorted((Path(store.url) / each).glob("*-0*.parquet"))]
    paths += [Path(store.url) / each / name for each in GROWING for name in ("plan.json",)]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


@pytest.mark.seconds
def test_every_step_grows_and_computes_only_what_is_new(
    tmp_path: Path, faces: Callable[[str], None], listed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    store, g = open_store(str(tmp_path / "store")), open_generator()
    vector = np.random.default_rng(0).normal(size=g.w_dim)
    named: dict[str, Any] = {
        "generator_name": g.name,
        "generator_fingerprint": g.fingerprint,
        "method": "test",
        "unit": 2.0,
    }
    store.directions.put(Direction("smile", vector / np.linalg.norm(vector), space="w", **named))
    faces(FIRST)
    run(run_invert, invert_job(tmp_path))
    # It was begun by a version whose methods had no precision.
    plan = store.latents["e4e"].plan()
    method = {key: value for key, value in plan.config["method"].items() if key != "precision"}
    old = Plan.of(plan.stage, {**plan.config, "method": method}, plan.provenance, plan.ids, 2)
    store.objects.put("latents/e4e/plan.json", old.to_json())
    assert run_all(tmp_path) == {"latents/e4e": 0} | dict.fromkeys(GROWING[1:], 3)
    fields = {"samples": "e4e", "source": "latents", "labels": "e4e", "attributes": ["smile"]}
    boundary = {"method": "interfacegan", "space": "w+", "tails": 0.5, "estimator": "ridge"}
    small = {"methods": [boundary], "calibration": {"samples": 0}}
    fit = FitJob.model_validate({"store": store.url, "name": "f", **fields, **small})
    assert run(run_fit, fit)["units_computed"] == 1
    before = files(store)

    faces(CAME)
    (tmp_path / "data/d.png").unlink()
    cost = estimate(store, store.latents["e4e"], plan_invert(invert_job(tmp_path)), INLINE)
    assert (cost.images, cost.left, cost.units) == (10, 4, 2)
    listed.clear()
    with caplog.at_level(logging.WARNING, "ganinv.store"):
        assert run_all(tmp_path) == dict.fromkeys(GROWING, 2)
    assert len(listed) == 1  # by the plan of the inversion; the steps after it know where the images are
    assert caplog.text.count("1 of the 6 images of") == 1
    after = files(store)
    assert before.items() <= after.items()
    everything = sorted(FIRST + CAME)
    for path in GROWING:
        collection = store.collection(*path.split("/"))
        assert sorted(set(collection.read(["image_id"])["image_id"].to_pylist())) == everything, path
        assert collection.status().left == collection.status().failed == 0
        manifest = collection.manifest()
        assert manifest is not None
        assert len(manifest.parts) == 5
    assert store.objects.names("latents/e4e").count("_sources-0001.parquet") == 1
    assert run_all(tmp_path) == dict.fromkeys(GROWING, 0)
    assert files(store) == after
    # A fit over more inversions is another fit.
    with pytest.raises(RunConflict, match=r"labels_units is new.*samples_units is new"):
        run(run_fit, fit)
    assert run(run_fit, fit.model_copy(update={"name": "g", "prefix": "g-"}))["units_computed"] == 1
    page = run(run_report, ReportJob(store=store.url, latents=("e4e",), edits="edits"))
    assert page["bytes"] > 10_000


@pytest.mark.seconds
def test_a_larger_limit_goes_on_and_what_went_before_it_was_done_is_missing(
    tmp_path: Path, faces: Callable[[str], None]
) -> None:
    faces(FIRST)
    assert run(run_invert, invert_job(tmp_path, limit=2))["units_computed"] == 1
    store = open_store(str(tmp_path / "store"))
    latents = store.latents["e4e"]
    latents.start(plan_invert(invert_job(tmp_path, limit=4)), grows=True, reread=comparable)  # killed before its index
    (tmp_path / "data/f.png").unlink()
    faces("zy")
    result = run(run_invert, invert_job(tmp_path))
    assert (result["rows"], result["failed"], result["units_computed"]) == (7, 1, 1 + 2)
    (error,) = store.latents["e4e"].errors().to_pylist()
    assert (error["image_id"], error["code"]) == ("f", "missing")
    assert run(run_invert, invert_job(tmp_path, limit=1))["rows"] == 7
    # A collection of an older version has no index: the data set is listed, whatever the limit was.
    for name in ("_sources.parquet", "_sources-0001.parquet"):
        store.objects.remove(f"latents/e4e/{name}")
    results = run(run_evaluate, EvaluateJob(store=store.url, latents="e4e"))
    assert (results["latents"]["rows"], results["latents"]["failed"]) == (7, 0)


@pytest.mark.seconds
def test_sampling_and_training_do_not_grow(tmp_path: Path, faces: Callable[[str], None]) -> None:
    save_generator(tiny_generator(16), str(tmp_path / "tiny"))
    sample = SampleJob(store=str(tmp_path / "s"), generator=str(tmp_path / "tiny"), count=4)
    run(run_sample, sample)
    with pytest.raises(RunConflict, match="count is 4 there, 6 now"):
        run(run_sample, sample.model_copy(update={"count": 6}))
    faces("ab")
    recipe = {"kind": "psp", "steps": 1, "batch_size": 2, "validation": {"images": 2}}
    train = TrainJob.model_validate(
        {"store": str(tmp_path / "s"), "dataset": {"url": str(tmp_path / "data")}, "recipe": recipe}
    )
    run(run_train, train)
    assert run(run_train, train)["units_computed"] == 0
    faces("c")
    with pytest.raises(RunConflict, match="images is "):
        run(run_train, train)
