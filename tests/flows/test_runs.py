"""Submitting, listing, reading and cancelling runs through a real Prefect server; nobody works on them here."""

from __future__ import annotations

import contextvars
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows import runs
from ganinv.errors import ConfigError
from tests.flows.test_cli import run_here

POOL = "nobody"


@pytest.fixture(scope="module")
def deployment(local_prefect: None) -> str:
    """The flow ``invert`` as a deployment on a pool without workers."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    from flows.steps import invert

    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    made: Any = invert.to_deployment("elsewhere", work_pool_name=POOL, entrypoint_type="module_path")
    made.apply()
    return "elsewhere"


@pytest.fixture
def submitted(deployment: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    arguments = ["submit", "s3://bucket/in", "--store=s3://bucket/out", "--limit=3", f"--to={deployment}", "--json"]
    code, out, err = run_here(monkeypatch, capsys, *arguments)
    assert code == 0, err
    run: dict[str, Any] = json.loads(out)
    return run


def test_a_run_is_handed_over_with_its_whole_job(submitted: dict[str, Any]) -> None:
    from prefect.client.orchestration import get_client

    assert (submitted["flow"], submitted["deployment"], submitted["state"]) == ("invert", "elsewhere", "Scheduled")
    with get_client(sync_client=True) as client:
        parameters = client.read_flow_run(submitted["id"]).parameters
    given = {"url": "s3://bucket/in", "image_column": None, "id_column": None, "where": {}, "limit": 3}
    assert parameters["job"]["dataset"] == given
    assert parameters["job"]["method"] == "pti"
    assert parameters["engine"]["kind"] == "auto"  # decided where it runs


def test_runs_are_listed(
    submitted: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run_here(monkeypatch, capsys, "runs", "--deployment=elsewhere", "--state=scheduled", "--json")
    assert code == 0
    assert submitted["id"] in [run["id"] for run in json.loads(out)]
    code, out, _ = run_here(monkeypatch, capsys, "runs", "--state=running", "--json")
    assert (code, json.loads(out)) == (0, [])
    code, out, _ = run_here(monkeypatch, capsys, "runs")
    assert code == 0
    assert submitted["id"][:8] in out


def test_a_run_that_nobody_began_is_cancelled_at_once(
    submitted: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    code, out, _ = run_here(monkeypatch, capsys, "cancel", submitted["id"][:13], "--json")
    assert (code, json.loads(out)["state"]) == (0, "Cancelled")
    assert time.monotonic() - started < 10
    code, _, err = run_here(monkeypatch, capsys, "cancel", submitted["name"])
    assert code == 1
    assert "is over (Cancelled)" in err


def test_a_flow_in_this_process_leaves_a_log(
    local_prefect: None,
    faces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [f"--store={tmp_path}/s", "--method=e4e", "--limit=2", "--engine=inline", "--json"]
    code, out, err = run_here(monkeypatch, capsys, "submit", str(faces), *arguments)
    assert code == 0, err
    assert json.loads(out)["rows"] == 2
    run = next(each for each in runs.list_runs(10) if each.deployment is None and each.flow == "invert")
    assert run.state == "Completed"
    with pytest.raises(ConfigError, match="is over"):
        runs.cancel(run.id)


METHOD = """
name: slow
summary: W projection that takes long enough to be cancelled
space: w
batch_size: 1
stages:
  - {kind: optimize, space: w, steps: 60, lr: 0.1}
"""


@pytest.mark.slow
@pytest.mark.usefixtures("local_prefect")
def test_a_run_started_by_hand_is_cancelled_from_elsewhere(faces: Path, tmp_path: Path) -> None:
    """No worker watches over it: the run itself asks whether it is still wanted."""
    from prefect.exceptions import CancelledRun

    from flows.steps import invert
    from ganinv.store import open_store
    from tasks.engine import Engine
    from tasks.sources import DatasetRef
    from tasks.steps.invert import InvertJob

    (tmp_path / "slow.yaml").write_text(METHOD)
    for k in range(20):
        for path in sorted(faces.iterdir())[:2]:
            (tmp_path / f"{path.stem}-{k}.png").write_bytes(path.read_bytes())
    dataset = DatasetRef(url=f"{tmp_path}/*.png")
    job = InvertJob(store=f"{tmp_path}/s", dataset=dataset, method=f"{tmp_path}/slow.yaml", unit_size=1)
    latents = open_store(job.store).latents["slow"]

    def cancel_when_the_first_image_is_done() -> None:
        while not (latents.exists() and latents.done()):
            time.sleep(0.2)
        (run,) = [each for each in runs.list_runs(5, state="running") if each.flow == "invert"]
        ended.append(runs.cancel(run.id, wait_seconds=120).state)

    ended: list[str] = []
    context = contextvars.copy_context()
    canceller = threading.Thread(target=context.run, args=(cancel_when_the_first_image_is_done,))
    canceller.start()
    with pytest.raises(CancelledRun, match="What is done is kept"):
        invert(job, Engine(kind="inline", quiet=True))
    canceller.join(timeout=120)
    assert ended == ["Cancelled"]
    status = latents.status()
    assert 1 <= status.done < 40
    assert status.left == 40 - status.done


def test_what_cannot_be_handed_over_is_said_in_words(
    deployment: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: str) -> str:
        code, _, err = run_here(monkeypatch, capsys, *arguments)
        assert code == 1
        return " ".join(err.split())

    there = ["--store=s3://bucket/out", "--to"]
    assert "no deployment 'invert/nowhere'" in refused("submit", "s3://bucket/in", *there, "nowhere")
    assert "runs another flow" in refused("submit", "s3://bucket/in", *there, "chain/elsewhere")
    assert "a path on this machine" in refused("submit", "photos", *there, deployment)
    assert "no run 'nobody'" in refused("logs", "nobody")
    with pytest.raises(ConfigError, match=r"refuses these parameters.*'job' is a required"):
        runs.submit(deployment, {"engine": {}}, "invert")


@pytest.fixture
def no_server() -> Iterator[None]:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        yield


@pytest.mark.usefixtures("no_server")
def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="cannot be reached"):
        runs.list_runs(1)


def test_status_needs_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ganinv.store import Plan, open_store

    open_store(str(tmp_path)).latents["a"].start(Plan.of("invert", {}, {}, ["x", "y", "z"], 2))
    code, out, _ = run_here(monkeypatch, capsys, "status", f"{tmp_path}/latents/a", "--json")
    assert code == 0
    (found,) = json.loads(out)
    assert (found["collection"], found["state"], found["planned"], found["left"]) == ("latents/a", "planned", 3, 3)
    code, out, _ = run_here(monkeypatch, capsys, "status", str(tmp_path))
    assert (code, "latents/a" in out) == (0, True)
    code, _, err = run_here(monkeypatch, capsys, "status", f"{tmp_path}/nothing")
    assert (code, "nothing was run" in err) == (1, True)


@pytest.mark.seconds
def test_a_dry_run_says_what_it_would_cost(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"--store={tmp_path}/s", f"--dataset={faces}", "--method=e4e", "--engine=inline"]
    code, out, err = run_here(monkeypatch, capsys, "invert", *arguments, "--dry-run", "--json")
    assert code == 0
    assert (json.loads(out)["left"], json.loads(out)["seconds"]) == (4, pytest.approx(4 * 0.05))
    assert "4 of 4 images to invert" in err
    assert not (tmp_path / "s").exists()
