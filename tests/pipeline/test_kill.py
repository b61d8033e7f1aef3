"""End the driver in mid-inversion, by SIGTERM and by kill -9: what comes out equals an undisturbed run, byte for byte."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ganinv.store import open_store
from tests.chaos.processes import command, family, kill, wait_for

pytestmark = pytest.mark.xdist_group("ray")

METHOD = """
name: slow-projection
summary: W projection that takes long enough to be killed
space: w
batch_size: 2
stages:
  - {kind: optimize, space: w, steps: 16, lr: 0.1}
"""
INVERT = """
import sys
from tasks.engine import Engine, open_pools
from tasks.jobs.dataset import DatasetRef
from tasks.steps.invert import InvertJob, run_invert
store, faces, method, kind = sys.argv[1:]
job = InvertJob(store=store, dataset=DatasetRef(url=faces), method=method, unit_size=2)
with open_pools(Engine(kind=kind, slots=2 if kind == "ray" else None, quiet=True)) as pools:
    run_invert(job, pools)
"""
UNITS = 13  # of 2 images, the last of one: more than two kills leave time for, on a fast machine too


def start(images: Path, method: Path, store: Path, kind: str = "ray") -> subprocess.Popen[bytes]:
    """A driver with a Ray of its own, or without one, in a process group of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_ADDRESS": ""}
    arguments = [sys.executable, "-c", INVERT, str(store), str(images), str(method), kind]
    return subprocess.Popen(arguments, env=environment, start_new_session=True)


def hashes(store: Path) -> dict[str, str]:
    """Every part by name. Timings are files of their own."""
    folder = store / "latents/slow-projection"
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.glob("part-*.parquet"))}


def workers(processes: set[int]) -> set[int]:
    """Those of them that carry out units."""
    return {pid for pid in processes if command(pid).startswith("ray::Slot")}


def in_the_middle(driver: subprocess.Popen[bytes], store: Path, parts: int) -> bool:
    """So many units are written and a worker is there, so that it is in another."""
    assert driver.poll() is None, "the driver ended by itself"
    return len(hashes(store)) >= parts and bool(workers(family({driver.pid})))


def none_left(processes: set[int]) -> None:
    """No worker outlives its driver. Ray's agents may, by the minute for which they look for their control store."""
    try:
        wait_for(lambda: not workers(processes), 60, "the driver's workers to end")
    finally:
        kill({pid for pid in processes if command(pid)})


@pytest.mark.slow
def test_ended_and_killed(faces: Path, tmp_path: Path) -> None:
    images, method = tmp_path / "in", tmp_path / "slow.yaml"
    images.mkdir()
    for k in range(12):  # more images, so that there are units enough to be killed between
        for path in sorted(faces.glob("*.png"))[:2]:
            (images / f"{path.stem}-{k}.png").write_bytes(path.read_bytes())
    (images / "broken.png").write_bytes(b"not an image")
    method.write_text(METHOD)

    assert start(images, method, tmp_path / "whole", "inline").wait(timeout=400) == 0
    whole = hashes(tmp_path / "whole")
    assert len(whole) == UNITS

    cut = tmp_path / "cut"
    for more, sent in enumerate((signal.SIGTERM, signal.SIGKILL)):
        driver, parts = start(images, method, cut), len(hashes(cut)) + more
        wait_for(lambda d=driver, n=parts: in_the_middle(d, cut, n), 300, f"{parts} parts and a worker")
        processes = family({driver.pid})
        assert workers(processes)
        if sent == signal.SIGTERM:
            os.killpg(driver.pid, sent)  # with its Ray, all at once
            assert driver.wait(timeout=120) != 0
            wait_for(lambda there=processes: not any(command(pid) for pid in there), 60, "Ray to end")
        else:
            driver.kill()  # alone: its Ray has to notice
            assert driver.wait() == -sent
            none_left(processes)
        assert len(hashes(cut)) < UNITS
    assert start(images, method, cut).wait(timeout=400) == 0

    assert hashes(cut) == whole
    collection = open_store(str(cut)).latents["slow-projection"]
    rows = collection.read(columns=["image_id"])["image_id"].to_pylist()
    assert len(rows) == len(set(rows)) == 24
    assert collection.errors()["image_id"].to_pylist() == ["broken"]
    status = collection.status()
    assert status.planned == status.done + status.failed == 25
