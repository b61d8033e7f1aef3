"""Kill -9 the driver in mid-inversion, three times; what comes out equals an undisturbed run, byte for byte."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ganinv.store import open_store

METHOD = """
name: slow-projection
summary: W projection that takes long enough to be killed
space: w
batch_size: 2
stages:
  - {kind: optimize, space: w, steps: 40, lr: 0.1}
"""


def command(faces: Path, method: Path, store: Path) -> list[str]:
    return [
        sys.executable,
        "-c",
        "from flows.cli import main; main()",
        "invert",
        f"--store={store}",
        f"--dataset={faces}",
        f"--method={method}",
        "--slots=1",
    ]


def hashes(store: Path) -> dict[str, str]:
    """Every part by name. Timings are files of their own."""
    folder = store / "latents/slow-projection"
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.glob("part-*.parquet"))}


@pytest.mark.slow
def test_killed_three_times(faces: Path, tmp_path: Path) -> None:
    for k in range(10):  # more images, so that there are units enough to be killed between
        for path in sorted(faces.glob("*.png"))[:2]:
            (tmp_path / "in").mkdir(exist_ok=True)
            (tmp_path / "in" / f"{path.stem}-{k}.png").write_bytes(path.read_bytes())
    (tmp_path / "in" / "broken.png").write_bytes(b"not an image")
    method = tmp_path / "slow.yaml"
    method.write_text(METHOD)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    subprocess.run(command(tmp_path / "in", method, tmp_path / "whole"), check=True, env=environment, timeout=400)
    whole = hashes(tmp_path / "whole")
    assert len(whole) == 2

    # Units of 16 and 5 images: kill before the first part, then twice more while the rest is computed.
    killed = 0
    for _ in range(3):
        driver = subprocess.Popen(
            command(tmp_path / "in", method, tmp_path / "cut"), env=environment, start_new_session=True
        )
        plan = tmp_path / "cut/latents/slow-projection/plan.json"
        deadline = time.monotonic() + 120
        while not plan.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(12 + 4 * killed)  # Ray starts, the worker is in the middle of a unit
        if driver.poll() is None:
            os.killpg(driver.pid, signal.SIGKILL)
            killed += 1
        driver.wait()
    assert killed >= 1
    subprocess.run(command(tmp_path / "in", method, tmp_path / "cut"), check=True, env=environment, timeout=400)

    assert hashes(tmp_path / "cut") == whole
    collection = open_store(str(tmp_path / "cut")).latents["slow-projection"]
    rows = collection.read(columns=["image_id"])["image_id"].to_pylist()
    assert len(rows) == len(set(rows)) == 20
    assert collection.errors()["image_id"].to_pylist() == ["broken"]
    status = collection.status()
    assert status.planned == status.done + status.failed == 21
    # No worker outlives its driver.
    time.sleep(3)
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "ray::RaySlot" not in processes
