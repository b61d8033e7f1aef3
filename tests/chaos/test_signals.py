"""Ctrl-C in a terminal, and what a supervisor sends: signals to a run and to the Ray that it started, all at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ganinv.store import open_store
from tests.chaos.processes import command, family, wait_for
from tests.data.pictures import encoded, noise

METHOD = (
    "{name: slow, summary: slow, space: w, batch_size: 1, stages: [{kind: optimize, space: w, steps: 80, lr: 0.1}]}"
)
RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
from tasks.engine import Engine, open_pools
from tasks.invert import DatasetRef, InvertJob, run_invert
job = InvertJob(store=sys.argv[1], dataset=DatasetRef(url=sys.argv[2]), method=sys.argv[3], unit_size=1)
with open_pools(Engine(slots=2, quiet=True)) as pools:
    run_invert(job, pools)
"""


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=lambda sent: sent.name)
def test_a_run_with_its_own_ray_ends_with_all_its_processes(tmp_path: Path, sent: signal.Signals) -> None:
    (tmp_path / "in").mkdir()
    for k in range(60):
        (tmp_path / "in" / f"{k:02d}.png").write_bytes(encoded(noise(64, 64, k)))
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
    os.killpg(run.pid, sent)
    assert run.wait(timeout=120) != 0
    wait_for(lambda: not any(command(pid) for pid in processes), 60, "Ray to end")
    print(
        f"\n{sent.name}: all gone after {time.monotonic() - asked:.1f} s"
    )  # the bar is 10; it is 3 to 5 on a busy machine
    status = latents.status()
    assert 0 < status.done < 60
    assert latents.read(["image_id"]).num_rows == status.done
