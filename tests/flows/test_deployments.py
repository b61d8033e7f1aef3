"""``prefect.yaml``: its deployments are flows with forms, a real server takes them, a real worker runs and stops them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Container, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import runs
from ganinv.errors import ConfigError
from ganinv.store import open_store
from tests.chaos.processes import command, family

ROOT = Path(__file__).parents[2]
MARK = "GANINV_TEST_MARK"

SLOW = """
name: slow-projection
summary: W projection that takes long enough to be stopped
space: w
batch_size: 1
stages:
  - {kind: optimize, space: w, steps: 80, lr: 0.1}
"""


def deployments() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    return found


@pytest.mark.seconds
def test_every_deployment_is_a_flow_with_a_typed_job() -> None:
    from prefect import Flow
    from prefect.flows import load_flow_from_entrypoint
    from prefect.utilities.callables import parameter_schema

    for deployment in deployments():
        flow = load_flow_from_entrypoint(deployment["entrypoint"])
        assert isinstance(flow, Flow), deployment["name"]
        schema = parameter_schema(flow).model_dump()
        kind = schema["properties"]["job"]["$ref"].rpartition("/")[2]
        assert schema["definitions"][kind]["properties"], deployment["name"]
        assert "ganinv" in deployment["tags"]
        assert deployment["concurrency_limit"]["limit"] == 1


def test_every_deployment_is_on_both_pools() -> None:
    pools: dict[str, set[str]] = {}
    for deployment in deployments():
        pools.setdefault(deployment["work_pool"]["name"], set()).add(deployment["name"].removesuffix("-kubernetes"))
    assert pools["local"] == pools["kubernetes"]
    assert {"chain", "invert", "refit-directions"} <= pools["local"]


def test_schedules_wait_until_somebody_switches_them_on() -> None:
    schedules = [schedule for each in deployments() for schedule in each.get("schedules", ())]
    assert schedules
    assert not any(schedule["active"] for schedule in schedules)


def test_a_chain_asks_for_store_and_data_set_once() -> None:
    """Prefect's server checks parameters by this schema: a step may leave out what the chain says."""
    from jsonschema import Draft202012Validator

    from flows.chain import ChainJob

    check = Draft202012Validator(ChainJob.model_json_schema())
    job = {"store": "s3://b/s", "dataset": {"url": "s3://b/in"}, "sample": {"count": 10}, "invert": [{"method": "e4e"}]}
    assert not list(check.iter_errors(job))
    assert [e.message for e in check.iter_errors({k: v for k, v in job.items() if k != "store"})]
    assert [e.message for e in check.iter_errors({**job, "sample": {"count": 0}})]


def environment(**more: str) -> dict[str, str]:
    """Of processes that talk to the server of the test run."""
    from prefect.settings import PREFECT_API_URL

    return {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value()), "PYTHONPATH": str(ROOT), **more}


@pytest.fixture(scope="module")
def deployed(local_prefect: None) -> None:
    """Both pools, and everything of ``prefect.yaml``, by Prefect's own command."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    template = json.loads((ROOT / "deploy/kubernetes/job-template.json").read_text())
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="local", type="process"))
        client.create_work_pool(WorkPoolCreate(name="kubernetes", type="kubernetes", base_job_template=template))
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("deployed")
def test_the_server_takes_all_of_them() -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        there = {d.name: d for d in client.read_deployments()}
        assert {each["name"] for each in deployments()} <= there.keys()
        for each in deployments():
            found = there[each["name"]]
            assert found.entrypoint == each["entrypoint"]
            assert not found.pull_steps  # a worker needs the package and nothing else
            assert found.enforce_parameter_schema
            assert found.global_concurrency_limit is not None
            assert found.global_concurrency_limit.limit == 1
            assert found.work_pool_name == each["work_pool"]["name"]
        (schedule,) = there["refit-directions"].schedules
        assert not schedule.active
        chain = there["chain"]
        job = {"store": "s3://b/s", "dataset": {"url": "s3://b/in"}, "sample": {"count": 10}}
        run = client.create_flow_run_from_deployment(chain.id, parameters={"job": job})
    runs.cancel(str(run.id))
    with pytest.raises(ConfigError, match="refuses these parameters"):
        runs.submit("chain", {"job": {"store": "s3://b/s"}}, "chain")


@pytest.mark.slow
@pytest.mark.usefixtures("local_prefect")
def test_the_server_takes_the_automations() -> None:
    from prefect.automations import Automation

    for each in yaml.safe_load((ROOT / "deploy/automations.yaml").read_text())["automations"]:
        made = Automation(**each).create()
        assert Automation.read(id=made.id).name == each["name"]


@pytest.fixture(scope="module")
def worker(deployed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A worker of the process pool. All its descendants carry its mark in their environment."""
    mark = uuid.uuid4().hex
    log = tmp_path_factory.mktemp("worker") / "log"
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "local", "--type", "process"]
    env = environment(**{MARK: mark, "PREFECT_WORKER_QUERY_SECONDS": "2", "OMP_NUM_THREADS": "1"})
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=log.parent, env=env, stdout=out, stderr=subprocess.STDOUT)
    yield mark
    process.terminate()
    process.wait(timeout=60)


@pytest.mark.slow
def test_a_worker_runs_what_was_submitted(worker: str, faces: Path, tmp_path: Path) -> None:
    job = {"store": str(tmp_path / "s"), "dataset": {"url": str(faces), "limit": 2}, "method": "e4e"}
    run = runs.submit("invert", {"job": job, "engine": {"kind": "inline"}}, "invert")
    assert wait_for(lambda: runs.read_run(run.id).state in ("Completed", "Failed", "Crashed"), 300)
    log = [line.message for line in runs.read_log(run.id)]
    assert runs.read_run(run.id).state == "Completed", log
    assert open_store(job["store"]).latents["e4e"].read().num_rows == 2
    # The worker sends its log in its own time.
    assert wait_for(lambda: any("latents-e4e: 2/2 images" in line.message for line in runs.read_log(run.id)), 60), log


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_cancel_stops_ray_and_keeps_what_is_finished(worker: str, faces: Path, tmp_path: Path) -> None:
    (tmp_path / "slow.yaml").write_text(SLOW)
    for path in faces.iterdir():
        for k in range(25):
            (tmp_path / f"{path.stem}-{k}.png").write_bytes(path.read_bytes())
    idle = marked(worker)
    job: dict[str, Any] = {"store": str(tmp_path / "s"), "dataset": {"url": f"{tmp_path}/*.png"}, "unit_size": 1}
    job["method"] = str(tmp_path / "slow.yaml")
    engine = {"kind": "ray", "slots": 1}
    run = runs.submit("invert", {"job": job, "engine": engine}, "invert")
    collection = open_store(str(tmp_path / "s")).latents["slow-projection"]
    assert wait_for(lambda: collection.exists() and bool(collection.done()), 400), runs.read_log(run.id)
    assert any("ray::Slot" in command for command in descendants(worker, idle))

    asked = time.monotonic()
    stopper = subprocess.Popen(
        [sys.executable, "-c", "from flows.cli import main; main()", "cancel", run.name, "--wait=200", "--json"],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert wait_for(lambda: runs.read_run(run.id).state.startswith("Cancel"), 120)
    began = time.monotonic()
    assert wait_for(lambda: not any("ray::Slot" in c for c in descendants(worker, idle)), 60)
    stopped = time.monotonic() - began
    assert wait_for(lambda: not any("ray" in c for c in descendants(worker, idle)), 60)
    took = time.monotonic() - began
    out, _ = stopper.communicate(timeout=240)
    print(
        f"\ncancel: work stopped after {stopped:.1f} s, Ray was gone after {took:.1f} s ({began - asked:.1f} s to ask)"
    )
    assert stopper.returncode == 0
    assert '"Cancelled"' in out
    assert took < 30  # it took 3.5 s on a machine with ten times its load; the bar is 10
    assert wait_for(lambda: not (marked(worker).keys() - idle.keys()), 60), marked(worker)

    status = collection.status()
    assert status.done > 0
    assert (status.planned, status.failed) == (100, 0)
    assert status.left > 0
    assert collection.read(["image_id"]).num_rows == status.done


def marked(mark: str) -> dict[int, str]:
    """Process id -> command line of every process that carries the mark."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if command:  # an empty one is a zombie
                        found[int(folder.name)] = command
    return found


def descendants(mark: str, idle: Container[int]) -> list[str]:
    """Command lines of what carries the mark and of its children, since Ray's workers write over theirs."""
    return [command(pid) for pid in family(set(marked(mark))) if pid not in idle]


def wait_for(condition: Any, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
