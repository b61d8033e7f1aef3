"""The pool on a real Ray: processes that die, hang and are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ganinv.errors import ConfigError, GeneratorMismatch
from tasks.pool import PoolError, RunSummary, UnitReport, WorkerSpec, open_pool
from tasks.pool.ray_local import _join
from tests.tasks.workers import FolderWorker, broken_factory, calls, commits, parts, units_of

pytestmark = pytest.mark.usefixtures("local_ray")

REPOSITORY = Path(__file__).parents[2]


def run(
    folder: Path, units: Any, reports: list[UnitReport] | None = None, deadline_seconds: float = 60, **kwargs: Any
) -> RunSummary:
    with open_pool("ray", slots=2, deadline_seconds=deadline_seconds, quiet=True) as pool:
        spec = WorkerSpec(FolderWorker, {"folder": str(folder), **kwargs})
        return pool.run(spec, units, on_report=reports.append if reports is not None else None)


def test_units_are_shared_between_processes_and_an_image_that_raises_costs_one_row(tmp_path: Path) -> None:
    reports: list[UnitReport] = []
    summary = run(tmp_path, units_of(24, 3), reports, seconds=0.05, raise_on=["img-5"])
    rows, failures = parts(tmp_path)
    assert rows == {f"img-{i}": i * i for i in range(24) if i != 5}
    assert set(failures) == {"img-5"}
    assert commits(tmp_path) == sorted(report.index for report in reports) == list(range(8))
    assert (summary.ok, summary.failed, summary.replaced_workers) == (23, 1, 0)
    assert {report.detail["threads"] for report in reports} == {"1"}  # two CPUs, two slots
    workers = {json.loads(line)["pid"] for line in (tmp_path / "calls").read_text().splitlines()}
    assert len(workers) == 2
    assert os.getpid() not in workers
    assert_all_gone(workers)


@pytest.mark.seconds
def test_a_worker_killed_in_the_middle_of_a_unit_is_replaced(tmp_path: Path) -> None:
    summary = run(tmp_path, units_of(12, 3), die_on=["img-4"], seconds=0.05)
    assert parts(tmp_path)[0] == {f"img-{i}": i * i for i in range(12)}
    assert commits(tmp_path) == [0, 1, 2, 3]
    assert (summary.ok, summary.retries, summary.replaced_workers) == (12, 1, 1)


@pytest.mark.slow
def test_an_image_that_hangs_once_is_done_elsewhere(tmp_path: Path) -> None:
    summary = run(tmp_path, units_of(6, 2), hang_on=["img-2"], deadline_seconds=2)
    assert (summary.ok, summary.replaced_workers) == (6, 1)
    assert commits(tmp_path) == [0, 1, 2]


@pytest.mark.slow
def test_an_image_that_always_kills_its_worker_becomes_an_error_row(tmp_path: Path) -> None:
    summary = run(tmp_path, units_of(4, 2), die_on=["img-1"], once=False)
    rows, failures = parts(tmp_path)
    assert (summary.ok, summary.failed) == (3, 1)
    assert failures["img-1"].code == "worker_died"
    assert set(rows) == {"img-0", "img-2", "img-3"}


@pytest.mark.slow
def test_a_batch_that_the_system_kills_for_its_memory_is_cut(tmp_path: Path) -> None:
    """Nobody raises when the kernel takes a process away: a unit dies, its halves do not."""
    summary = run(tmp_path, units_of(8, 8), die_above=4)
    assert (summary.ok, summary.failed) == (8, 0)
    assert [len(ids) for ids in calls(tmp_path)] == [8, 8, 8, 4, 4] + [1] * 8


def test_a_node_that_takes_its_workers_with_it_counts_once() -> None:
    from tasks.pool.ray_engine import Setbacks

    crashes = Setbacks()
    assert [crashes.add(100.0 + k / 100) for k in range(16)] == [100.5] * 16
    assert crashes.count == 1
    assert crashes.add(200.0) == 201.0
    assert crashes.count == 2
    crashes.clear()
    assert crashes.add(300.0) == 300.5


def test_an_error_of_the_whole_run_arrives_as_it_was_raised() -> None:
    spec = WorkerSpec(broken_factory, {"error": GeneratorMismatch("another generator")})
    with open_pool("ray", slots=1, quiet=True) as pool, pytest.raises(GeneratorMismatch, match="another generator"):
        pool.run(spec, units_of(2, 1))


def test_more_than_the_machine_has_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="1000 CPUs"), open_pool("ray", slots=1, cpus_per_slot=1000):
        pass


def test_a_cluster_that_is_not_there_is_named() -> None:
    with pytest.raises(PoolError, match=r"the Ray cluster at 127\.0\.0\.1:1 cannot be joined.*refused"):
        _join("127.0.0.1:1")


DRIVER = """
import sys
from tasks.pool import WorkerSpec, open_pool
from tasks.pool.ray_local import _join
from tests.tasks.workers import FolderWorker, units_of
with open_pool("ray", slots=2, address=sys.argv[2], quiet=True) as pool:
    pool.run(WorkerSpec(FolderWorker, {"folder": sys.argv[1], "seconds": 0.2}), units_of(20, 2))
"""


@pytest.mark.seconds
@pytest.mark.parametrize(
    "end",
    [
        signal.SIGKILL,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
    ],
    ids=lambda end: end.name,
)
def test_a_stopped_driver_leaves_no_worker_and_the_next_one_goes_on(tmp_path: Path, end: signal.Signals) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    first = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path), address], cwd=REPOSITORY, stderr=subprocess.PIPE
    )
    wait_until(lambda: (tmp_path / "commits").exists() and len(commits(tmp_path)) >= 2, 180)
    os.kill(first.pid, end)
    _, said = first.communicate(timeout=60)
    assert first.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: -2}[end], said
    workers = {json.loads(line)["pid"] for line in (tmp_path / "calls").read_text().splitlines()}
    assert_all_gone(workers)
    before = commits(tmp_path)
    assert len(before) < 10

    left = [unit for unit in units_of(20, 2) if unit.index not in before]
    assert run(tmp_path, left).units == 10 - len(before)
    assert commits(tmp_path) == list(range(10))
    assert parts(tmp_path)[0] == {f"img-{i}": i * i for i in range(20)}
    assert len(calls(tmp_path)) <= 10 + 4  # at most the units that were running and queued are begun again


def test_everything_listens_on_loopback_only() -> None:
    addresses = listening_addresses(ray_processes())
    assert addresses, "Ray must be found listening somewhere, else this test sees nothing"
    assert {address for address in addresses if not address.startswith("127.")} <= {"::1"}


def test_the_token_is_readable_by_its_owner_only() -> None:
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    assert token.stat().st_mode & 0o777 == 0o600
    assert len(token.read_text()) == 64
    assert token.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
def test_without_the_token_the_cluster_cannot_be_joined(tmp_path: Path) -> None:
    import ray

    (tmp_path / "token").write_text("0" * 64)
    address = ray.get_runtime_context().gcs_address
    script = f"from tasks.pool import open_pool\nwith open_pool('ray', address={address!r}): pass"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        env={**os.environ, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 1
    assert "PoolError" in done.stderr


def wait_until(true: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.05)


def assert_all_gone(processes: set[int]) -> None:
    wait_until(lambda: not any(alive(pid) for pid in processes), 30)


def alive(pid: int) -> bool:
    """The process exists and is more than an entry that its parent has not read."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ray_processes() -> set[int]:
    """This process's descendants, which are the node's services and workers."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    family = {os.getpid()}
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    return family


def listening_addresses(processes: set[int]) -> set[str]:
    """Local addresses of the listening TCP sockets of these processes."""
    inodes = set()
    for pid in processes:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(os.readlink(link))
            except OSError:
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found.add(_address(fields[1].partition(":")[0]))
    return found


def _address(text: str) -> str:
    """``0100007F`` -> ``127.0.0.1``; 16 bytes as an IPv6 address. Words are in the machine's byte order."""
    import ipaddress

    words = [bytes.fromhex(text[i : i + 8])[::-1] for i in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(words))
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
