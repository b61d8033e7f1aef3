"""The inversion worker: units of several batches, reading ahead, and inversions that are not measured."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ganinv.data import LoadedBatch
from ganinv.data.index import write_index
from ganinv.stages.method import method_config
from ganinv.store import open_store
from ganinv.store.tensors import tensor_numpy
from tasks.engine import Engine, open_pools
from tasks.sources import DatasetRef
from tasks.steps.invert import InvertJob, InvertWorker, plan_invert, run_invert, shard_size
from tests.garbage import left_in_cycles


@pytest.fixture(scope="module")
def faces(demo_pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 files: the demo's faces again and again, one of them cut."""
    found = sorted(demo_pictures.rglob("*.png"))
    folder = tmp_path_factory.mktemp("faces")
    for k in range(40):
        shutil.copy(found[k % len(found)], folder / f"{k:03d}.png")
    cut = folder / "020.png"
    cut.write_bytes(cut.read_bytes()[:300])
    return folder


def job_of(store: Path, faces: Path, **more: Any) -> InvertJob:
    fields = {"store": str(store), "dataset": DatasetRef(url=str(faces)), "method": "e4e", **more}
    return InvertJob.model_validate(fields)


def invert(job: InvertJob) -> Any:
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        run_invert(job, pools)
    return open_store(job.store).latents[job.collection_name]


@pytest.mark.seconds
def test_an_inversion_in_several_batches_without_measuring_has_the_same_codes(tmp_path: Path, faces: Path) -> None:
    whole = invert(job_of(tmp_path, faces, name="whole", unit_size=64))
    plain = invert(job_of(tmp_path, faces, name="plain", unit_size=64, measure=False, overrides={"batch_size": 16}))
    assert len(plain.plan().units) == 1
    a, b = whole.read(), plain.read()
    assert a["image_id"].to_pylist() == b["image_id"].to_pylist()
    assert a.num_rows == 39
    np.testing.assert_allclose(tensor_numpy(a["w"]), tensor_numpy(b["w"]), atol=1e-4)
    assert a["mse"].null_count == 0
    assert [b[name].null_count for name in ("mse", "distance", "stored_mse", "stored_distance")] == [39] * 4
    assert plain.errors().to_pylist()[0]["image_id"] == "020"
    assert plain.timings().num_rows == 39


@pytest.mark.seconds
def test_the_next_batch_is_read_while_one_is_computed(tmp_path: Path, faces: Path) -> None:
    job = job_of(tmp_path, faces, measure=False, overrides={"batch_size": 16})
    dataset = job.dataset.open()
    plan = plan_invert(job, dataset)
    collection = open_store(job.store).latents["e4e"]
    write_index(dataset, collection.objects, collection.path, plan.ids)
    worker = Watched(job)
    rows = worker.process(plan.ids)
    assert len(rows) == 40
    assert worker.waited == [True, True, False]  # the last has none behind it


@pytest.mark.seconds
def test_a_unit_leaves_no_tensor_to_the_collector(tmp_path: Path, faces: Path) -> None:
    stages = {i: {"steps": 2} for i, stage in enumerate(method_config("pti").stages) if stage.iterative}
    job = job_of(tmp_path, faces, method="pti", overrides={"stages": stages, "batch_size": 4})
    dataset = job.dataset.open()
    plan = plan_invert(job, dataset)
    collection = open_store(job.store).latents["pti"]
    write_index(dataset, collection.objects, collection.path, plan.ids)
    worker = InvertWorker(job)
    assert not left_in_cycles(lambda: worker.process(plan.ids[:4]))


class Watched(InvertWorker):
    """Computes a batch only when the next one is being read, if there is one."""

    def __init__(self, job: InvertJob) -> None:
        super().__init__(job)
        self.reads = threading.Semaphore(0)
        self.waited: list[bool] = []

    def _load(self, ids: Any) -> LoadedBatch:
        self.reads.release()
        return super()._load(ids)

    def _inverted(self, loaded: LoadedBatch, started: float) -> list[Any]:
        if not self.waited:
            assert self.reads.acquire(timeout=60)  # its own
        self.waited.append(self.reads.acquire(timeout=60 if len(self.waited) < 2 else 0.5))
        return super()._inverted(loaded, started)


def test_units_of_a_single_pass_grow_with_the_data_set() -> None:
    e4e, pti = method_config("e4e"), method_config("pti")
    assert [shard_size(e4e, n) for n in (12, 5_000, 10_000, 70_000, 10**8)] == [64, 64, 128, 512, 5056]
    assert [shard_size(pti, n) for n in (12, 70_000)] == [16, 16]


def test_without_measuring_it_is_another_run(tmp_path: Path, faces: Path) -> None:
    measured, plain = (plan_invert(job_of(tmp_path, faces, measure=m)) for m in (True, False))
    assert measured.config_digest != plain.config_digest


@pytest.mark.seconds
def test_workers_do_not_list_the_data_set(tmp_path: Path, faces: Path, listed: list[str]) -> None:
    job = job_of(tmp_path, faces, measure=False, unit_size=16)
    collection = invert(job)
    assert len(listed) == 1  # by the plan
    table = collection.read(["image_id", "source_uri"])
    assert table["source_uri"].to_pylist() == [str(faces / f"{i}.png") for i in table["image_id"].to_pylist()]
    # A run that an older version began has no index: the one that goes on writes it.
    for name in ("_sources.parquet", "part-00001.parquet", "_manifest.json"):
        collection.objects.remove(f"{collection.path}/{name}")
    assert invert(job).read(["image_id"]).num_rows == 39
