"""Ctrl-C in a terminal, and what a supervisor sends: signals to a run and to the Ray that it started, all at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.cli import TERMINATED
from ganinv.store import open_store
from tests.chaos.processes import command, family, wait_for
from tests.data.pictures import encoded, noise

pytestmark = pytest.mark.xdist_group("ray")

METHOD = (
    "{name: slow, summary: slow, space: w, batch_size: 1, stages: [{kind: optimize, space: w, steps: 80, lr: 0.1}]}"
)
RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
from tasks.engine import Engine, open_pools
from tasks.steps.invert import InvertJob, run_invert
from tasks.sources import DatasetRef
job = InvertJob(store=sys.argv[1], dataset=DatasetRef(url=sys.argv[2]), method=sys.argv[3], unit_size=1)
with open_pools(Engine(slots=2, quiet=True)) as pools:
    run_invert(job, pools)
"""
FLOW = "from flows.cli import main; main()"


def pictures(folder: Path, count: int) -> Path:
    folder.mkdir()
    for k in range(count):
        (folder / f"{k:02d}.png").write_bytes(encoded(noise(64, 64, k)))
    return folder


@pytest.mark.slow
def test_a_run_with_its_own_ray_ends_with_all_its_processes(tmp_path: Path) -> None:
    """By Ctrl-C. What SIGTERM does: tests/pipeline/test_kill.py."""
    pictures(tmp_path / "in", 60)
    (tmp_path / "slow.yaml").write_text(METHOD)
    arguments = [str(tmp_path / "s"), str(tmp_path / "in"), str(tmp_path / "slow.yaml")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_ADDRESS": ""}
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments], env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    latents = open_store(arguments[0]).latents["slow"]
    wait_for(lambda: latents.exists() and latents.done(), 300, "the first part")
    processes = family({run.pid})
    assert any(command(pid).startswith("ray::Slot") for pid in processes)
    asked = time.monotonic()
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(timeout=120) != 0
    wait_for(lambda: not any(command(pid) for pid in processes), 60, "Ray to end")
    print(f"\nall gone after {time.monotonic() - asked:.1f} s")  # the bar is 10; it is 3 to 5 on a busy machine
    status = latents.status()
    assert 0 < status.done < 60
    assert latents.read(["image_id"]).num_rows == status.done


@pytest.mark.slow
def test_a_flow_with_its_own_server_ends_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "slow.yaml").write_text(METHOD.replace("batch_size: 1", "batch_size: 4"))
    arguments = ["submit", str(pictures(tmp_path / "in", 80)), f"--store={tmp_path / 's'}", "--slots=2"]
    arguments += [f"--method={tmp_path / 'slow.yaml'}", "--unit-size=4"]  # a first part soon
    environment = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "PREFECT_API_URL")}
    environment |= {"OMP_NUM_THREADS": "1", "PREFECT_HOME": str(tmp_path / "prefect")}
    with (tmp_path / "said").open("wb") as said:
        run = subprocess.Popen(
            [sys.executable, "-c", FLOW, *arguments], env=environment, stdout=said, stderr=said, start_new_session=True
        )
    latents = open_store(str(tmp_path / "s")).latents["slow"]
    wait_for(lambda: latents.exists() and latents.done(), 500, "the first part")
    processes = family({run.pid})
    assert any("flows.server" in command(pid) for pid in processes)
    asked = time.monotonic()
    os.killpg(run.pid, signal.SIGTERM)
    assert run.wait(timeout=120) == TERMINATED
    wait_for(lambda: not any(command(pid) for pid in processes), 60, "all processes to end")
    print(f"\nall gone after {time.monotonic() - asked:.1f} s")
    lines = (tmp_path / "said").read_text().splitlines()
    told = [line for line in lines if not line.startswith("invert slow: ") and "no face was found" not in line]
    assert told == ["ganinv: ended by a signal. What is done is kept: run the same command again to continue"]
    assert 0 < latents.status().done < 80


@pytest.mark.seconds
def test_a_server_ends_with_the_process_that_started_it_however_that_ends(tmp_path: Path) -> None:
    code = "import time; from flows.server import own_server\nwith own_server():\n print(flush=True); time.sleep(600)"
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    run = subprocess.Popen(
        [sys.executable, "-c", code], env=environment | {"PREFECT_HOME": str(tmp_path)}, stdout=subprocess.PIPE
    )
    assert run.stdout is not None
    run.stdout.readline()
    processes = family({run.pid})
    assert any("flows.server" in command(pid) for pid in processes)
    run.kill()
    run.wait()
    wait_for(lambda: not any(command(pid) for pid in processes), 60, "the server to end")
