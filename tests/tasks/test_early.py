"""Ray begun ahead, workers that stay, and work that is too little for Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from flows.cli import flags
from ganinv.errors import ConfigError
from ganinv.store import Plan, open_store
from tasks.engine import Engine, open_pools
from tasks.estimate import estimate, little
from tasks.pool import WorkerSpec, early, open_pool
from tasks.pool.inline import InlinePool
from tests.tasks.workers import FolderWorker, parts, units_of


def spec(folder: Path, **more: Any) -> WorkerSpec:
    folder.mkdir(exist_ok=True)
    return WorkerSpec(FolderWorker, {"folder": str(folder), **more})


def workers(folder: Path) -> set[int]:
    return {json.loads(line)["pid"] for line in (folder / "calls").read_text().splitlines()}


@pytest.mark.usefixtures("local_ray")
def test_workers_stay_for_the_next_run_and_do_its_work(tmp_path: Path) -> None:
    with open_pool("ray", slots=2, quiet=True) as pool:
        pool.run(spec(tmp_path / "a", seconds=0.05), units_of(12, 3))
        pool.run(spec(tmp_path / "b", seconds=0.05), units_of(8, 2))
        pool.release()
        pool.run(spec(tmp_path / "c", seconds=0.05), units_of(4, 1))
    assert parts(tmp_path / "b")[0] == {f"img-{i}": i * i for i in range(8)}
    # Not all of them: the second may have begun too late for any unit of the first run.
    assert workers(tmp_path / "b") & workers(tmp_path / "a")
    assert not workers(tmp_path / "c") & workers(tmp_path / "a")


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_workers_of_a_run_that_failed_do_not_stay(tmp_path: Path) -> None:
    with open_pool("ray", slots=1, quiet=True) as pool:
        pool.run(spec(tmp_path / "a"), units_of(1, 1))
        with pytest.raises(ConfigError, match="expected a folder"):
            pool.run(WorkerSpec(_refusing), units_of(1, 1))
        pool.run(spec(tmp_path / "b"), units_of(1, 1))
    assert not workers(tmp_path / "b") & workers(tmp_path / "a")


def _refusing() -> Any:
    raise ConfigError("expected a folder")


@pytest.mark.usefixtures("local_ray")
def test_steps_of_a_chain_share_workers_and_another_kind_of_pool_gets_their_cores(tmp_path: Path) -> None:
    """Two slots hold both cores; the sequential pool's one would wait for ever if they stayed."""
    with open_pools(Engine(kind="ray", slots=2, quiet=True)) as pools:
        pools.get().run(spec(tmp_path / "a"), units_of(4, 1))
        pools.get(sequential=True).run(spec(tmp_path / "b"), units_of(2, 1))
        pools.get().run(spec(tmp_path / "c"), units_of(4, 1))
    assert parts(tmp_path / "c")[0] == {f"img-{i}": i * i for i in range(4)}


@pytest.mark.usefixtures("local_ray")
def test_what_was_begun_ahead_is_the_pool_of_the_first_step(tmp_path: Path) -> None:
    engine = Engine(kind="ray", slots=2, quiet=True)
    assert early.begin(engine, ["tests.tasks.workers", "no.such.module"])
    assert not early.begin(engine, [])  # once
    with open_pools(engine.model_copy(update={"retry_failed": True})) as pools:
        pool = pools.get()
        pool.run(spec(tmp_path / "a"), units_of(4, 1))
        assert len(workers(tmp_path / "a")) <= 2
    assert early.claim() is None


@pytest.mark.usefixtures("local_ray")
def test_what_was_begun_otherwise_ends_and_another_pool_is_made(tmp_path: Path) -> None:
    assert early.begin(Engine(kind="ray", slots=1, quiet=True), [])
    with open_pools(Engine(kind="ray", slots=2, quiet=True)) as pools:
        assert pools.get().place.slots == 2
        pools.get().run(spec(tmp_path / "a"), units_of(2, 1))


@pytest.mark.seconds
def test_a_command_works_on_the_ray_that_it_began_ahead(tmp_path: Path) -> None:
    """In a process of its own: what a thread has started must outlive the start."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    words = [
        "sample",
        f"--store={tmp_path / 'store'}",
        "--count=8",
        "--unit-size=4",
        "--engine=ray",
        "--slots=1",
        "--json",
    ]
    code = "from flows.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["rows"] == 8


def test_what_goes_wrong_ahead_is_told_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ConfigError("a pool needs slots >= 1")

    monkeypatch.setattr("tasks.pool.open_pool", broken)
    engine = Engine(kind="ray", slots=2)
    assert early.begin(engine, [])
    with pytest.raises(ConfigError, match="slots >= 1"), open_pools(engine) as pools:
        pools.get()
    assert early.begin(engine, [])
    early.drop()
    assert early.claim() is None
    assert not [t for t in threading.enumerate() if t.name.startswith("ganinv-ray")]


@pytest.mark.parametrize(
    ("kind", "cores", "address", "begun"),
    [
        ("ray", 1, "", True),
        ("auto", 8, "", True),
        ("auto", 2, "", False),
        ("inline", 8, "", False),
        ("ray", 8, "h:1", False),
    ],
)
def test_when_it_begins(kind: Any, cores: int, address: str, begun: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "cores", lambda: cores)
    monkeypatch.setenv("RAY_ADDRESS", address)
    made: list[Engine] = []

    class Noted:
        def __init__(self, engine: Engine, modules: Any) -> None:
            made.append(engine)

    monkeypatch.setattr(early, "Early", Noted)
    monkeypatch.setattr(early, "_early", None)
    assert early.begin(Engine(kind=kind), ["torch"]) is begun
    assert len(made) == begun


@pytest.mark.parametrize(
    ("args", "want"),
    [
        (["--engine", "ray", "--slots", "3", "--store", "s"], {"kind": "ray", "slots": 3}),
        (["--engine=inline", "--limit=4"], {"kind": "inline"}),
        (["--quiet", "--cpus-per-slot", "0.5"], {"quiet": True, "cpus_per_slot": 0.5}),
        (["--store", "s"], {}),
        (["--engine", "horse"], None),
    ],
)
def test_the_engine_is_read_before_the_command_is(
    args: list[str], want: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[Engine, Any]] = []
    monkeypatch.setattr(early, "begin", lambda engine, modules: found.append((engine, modules)))
    invert = next(step for step in flags.STEPS if step.name == "invert")
    flags.begin_ahead(invert, args)
    assert found == ([] if want is None else [(Engine(**want), ("tasks.steps.invert",))])


class _Images:
    """A plan of so many images of a method whose cost is known."""

    def __init__(self, count: int, method: str = "e4e") -> None:
        provenance = {"method": method, "generator_name": "portraits-64"}
        self.plan = Plan.of("invert", {"measure": True}, provenance, [f"{i:05d}" for i in range(count)], 16)


def test_little_work_is_done_here_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.pool.ray_local.cores", lambda: 2)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    store = open_store(str(tmp_path))
    latents, auto = store.latents["a"], Engine()

    def said(images: _Images, engine: Engine = auto) -> str:
        return little(lambda: estimate(store, latents, images.plan, engine), engine)

    why = said(_Images(16))
    assert why == "about 1s of work, Ray would take longer to start"
    assert said(_Images(5000)) == ""
    assert said(_Images(64, "pti")) == ""
    assert said(_Images(16, "nobody-knows")) == ""
    assert said(_Images(16), Engine(kind="ray")) == ""
    with open_pools(auto) as pools:
        pool = pools.get(little=why)
        assert isinstance(pool, InlinePool)
        assert str(pool.place).startswith("inline (about 1s of work, Ray would take longer to start), 1 worker")
        assert pools.get(little=why) is pool


@pytest.mark.usefixtures("local_ray")
def test_little_work_goes_to_ray_where_ray_runs_already() -> None:
    with open_pools(Engine(slots=1, quiet=True).model_copy(update={"kind": "auto"})) as pools:
        if pools.engine.runs != "ray":
            pytest.skip("a machine of one core has nothing to choose")
        first = pools.get()
        assert pools.get(little="1s of work") is first


def test_begun_in_vain_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[float] = []

    class Begun:
        def end(self) -> None:
            time.sleep(0.05)
            ended.append(1)

    monkeypatch.setattr(early, "_early", Begun())
    early.drop()
    assert not ended  # nobody waits for it
    assert early.claim() is None
    assert ended == [1]  # but a caller that wants another one
