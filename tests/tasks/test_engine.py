"""Which engine, on what: the GPU is taken where there is one, and what a run computes on is told and kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from ganinv.machine import Machine, library, processor
from ganinv.store import Collection, Plan, open_store
from tasks.engine import Engine, default_device, gpus_expected, open_pools, run_units
from tasks.pool import WorkerSpec
from tasks.summary import TABLE, read_summary
from tests.tasks.workers import StoringWorker, units_of

REPOSITORY = Path(__file__).parents[2]
NAMES = ("CUDA_VISIBLE_DEVICES", "GANINV_FAST", "MKL_CBWR", "OMP_NUM_THREADS", "ATEN_CPU_CAPABILITY")


@dataclass
class SeeingWorker(StoringWorker):
    """Writes down where it is."""

    def __post_init__(self) -> None:
        seen = {name: os.environ.get(name) for name in NAMES} | {"device": default_device()}
        (Path(self.folder) / f"seen-{os.getpid()}.json").write_text(json.dumps(seen))


def plan_of(images: int) -> Plan:
    return Plan.of("square", {}, {"method": "squares"}, [i for u in units_of(images, 3) for i in u.ids], 3)


def run(store: str, folder: Path, engine: Engine, gpu: bool = True) -> Collection:
    root = open_store(store)
    collection = root.collection("squares", "a")
    spec = WorkerSpec(SeeingWorker, {"url": root.url, "folder": str(folder)})
    with open_pools(engine) as pools:
        run_units(collection, plan_of(6), spec, pools, "square", gpu=gpu)
    return collection


def seen(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("seen-*.json"))]


def row(collection: Collection) -> dict[str, Any]:
    last: dict[str, Any] = pq.read_table(Path(collection.url) / TABLE).to_pylist()[-1]
    return last


@pytest.mark.slow
def test_a_slot_asks_for_the_gpu_that_ray_sees_and_computes_on_the_cpu_where_torch_sees_none(tmp_path: Path) -> None:
    """Ray is told of one GPU. A step that can use it gets it, one that cannot gets two slots of one CPU."""
    code = (
        "import logging, sys; from pathlib import Path; from tasks.pool.ray_local import connected;"
        "from tests.tasks.test_engine import run; from tasks.engine import Engine;"
        "logging.basicConfig(level=logging.WARNING); root = Path(sys.argv[1]);"
        "[(root / name).mkdir() for name in 'ab']\n"
        "with connected(num_cpus=2, num_gpus=1, object_store_bytes=100 * 2**20):\n"
        "    run(str(root / 'a/s'), root / 'a', Engine(kind='ray'), True)\n"
        "    run(str(root / 'b/s'), root / 'b', Engine(kind='ray'), False)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "GANINV_FAST": "compile", "ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    with_gpu, without = (open_store(str(tmp_path / n / "s")).collection("squares", "a") for n in "ab")
    told = row(with_gpu)
    assert (told["engine"], told["slots"], told["gpus_per_slot"]) == ("ray", 1, 1.0)
    assert told["gpu_seconds"] > 0
    (worker,) = seen(tmp_path / "a")
    assert worker["CUDA_VISIBLE_DEVICES"] == "0"
    assert worker["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    if not torch.cuda.is_available():
        assert "was given 1 GPU and computes on its processor" in done.stderr
        assert "--gpus-per-slot 0" in done.stderr
        assert told["machines"][0].startswith(processor())
    told = row(without)
    assert (told["slots"], told["gpus_per_slot"], told["gpu_seconds"]) == (2, 0.0, 0.0)
    assert all(worker["CUDA_VISIBLE_DEVICES"] == "" for worker in seen(tmp_path / "b"))
    # What changes what is computed goes along, and is written down.
    switches = {"GANINV_FAST": "compile", "ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": os.environ["MKL_CBWR"]}
    for worker in (*seen(tmp_path / "a"), *seen(tmp_path / "b")):
        assert switches.items() <= worker.items()
    assert set(told["switches"]) == {f"{name}={value}" for name, value in switches.items()}
    # The first line tells it too, before anything is computed.
    lines = [line for line in done.stderr.splitlines() if line.startswith("square: ")]
    assert lines[0].startswith("square: 6 images on ray, 1 worker, 1 GPU")
    assert f"square: 6 images on ray, 2 workers, each 1 CPU ({processor()}), 1 thread" in lines


def test_inline_says_what_it_computes_on_and_so_do_summary_and_provenance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collection = run(str(tmp_path / "s"), tmp_path, Engine(kind="inline", gpus_per_slot=0))
    threads = torch.get_num_threads()
    place = {"engine": "inline", "slots": 1, "cpus_per_slot": 1, "gpus_per_slot": 0.0}
    begun = collection.provenance()["begun_on"]
    assert begun == place | {"threads": threads, "device": processor()}
    assert f"square: 6 images on inline, 1 worker, 1 CPU ({processor()})" in capsys.readouterr().err
    told = row(collection)
    assert told["machines"] == [f"{processor()}, {library()}, {threads} thread{'s' * (threads != 1)}"]
    assert told["traces"] == list(Machine.here().traces)
    text = read_summary(collection.url)
    assert "inline: 1, each 1 CPU" in text
    assert told["machines"][0] in text
    # Parts know nothing of it: equal units have equal bytes wherever they were computed.
    header = pq.read_schema(Path(collection.url) / "part-00000.parquet").metadata
    assert all(b"begun_on" not in value for value in header.values())


def test_a_run_says_where_the_promise_does_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The probe's answer is given, for a processor on which four rows differ from sixteen; what follows from it is real."""
    monkeypatch.setattr("ganinv.stages.company.traces", lambda device="cpu": ("matmul 512x512",))
    collection = run(str(tmp_path / "s"), tmp_path, Engine(kind="inline", quiet=True))
    warning = next(
        r.getMessage() for r in caplog.records if "depends in its last digits on its batch" in r.getMessage()
    )
    assert processor() in warning
    assert library() in warning
    assert row(collection)["traces"] == ["matmul 512x512"]
    text = read_summary(collection.url)
    assert "an image's result depends in its last digits on its batch** (matmul 512x512)" in text
    assert processor() in text


def test_inline_takes_the_gpu_that_torch_sees_unless_it_is_told_not_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GPU is here: what torch would say of one is given, and workers write down which device they would use."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "a GPU")
    monkeypatch.setattr("tasks.pool.slot._machine", lambda: None)
    assert gpus_expected(Engine(kind="inline")) == 1
    assert gpus_expected(Engine(kind="inline", gpus_per_slot=0)) == 0
    for number, (engine, gpu, device) in enumerate(
        [
            (Engine(kind="inline", quiet=True), True, "cuda"),
            (Engine(kind="inline", quiet=True), False, "cpu"),
            (Engine(kind="inline", quiet=True, gpus_per_slot=0), True, "cpu"),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        collection = run(str(folder / "s"), folder, engine, gpu)
        assert seen(folder)[0]["device"] == device
        assert row(collection)["gpus_per_slot"] == float(device == "cuda")
    assert default_device() == "cuda"  # the inline engine's block is over


def test_auto_is_ray_where_there_is_a_cluster_or_more_than_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.pool.ray_local.cores", lambda: 1)
    assert Engine().runs == "inline"
    assert Engine(kind="ray").runs == "ray"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert Engine().runs == "ray"
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setattr("tasks.pool.ray_local.cores", lambda: 2)
    assert Engine().runs == "ray"
    assert Engine(kind="inline").runs == "inline"
