"""The head of a cluster is killed in the middle of a run: there is nobody left to ask for workers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from ganinv.store import Collection, Plan, open_store
from tasks.pool import PoolError, WorkerSpec, open_pool
from tasks.pool.ray_head import HEAD_SECONDS, ClusterHead
from tests.chaos.cluster import RayCluster
from tests.chaos.processes import MARK, family, kill, wait_for
from tests.chaos.workers import SlowWorker

pytestmark = pytest.mark.xdist_group("ray")

REPOSITORY = Path(__file__).parents[2]
RUN = """
import sys
from ganinv.store import open_store
from tasks.pool import WorkerSpec, open_pool
from tests.chaos.workers import SlowWorker
collection = open_store(sys.argv[1]).latents["head"]
done = collection.done()
left = [unit for unit in collection.plan().units if unit.index not in done]
with open_pool("ray", slots=1) as pool:
    pool.run(WorkerSpec(SlowWorker, {"collection": collection, "seconds": 1.0}), left)
collection.finish()
"""


def start(cluster: RayCluster, collection: Collection, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", RUN, collection.objects.url]
    environment = {**os.environ, **cluster.environment, MARK: f"{cluster.mark}/driver/"}
    with log.open("wb") as file:
        return subprocess.Popen(command, env=environment, cwd=REPOSITORY, stdout=file, stderr=file)


def test_a_head_that_comes_back_is_no_reason_to_give_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        head = ClusterHead(f"127.0.0.1:{listening.getsockname()[1]}")
        head.check(0.0)
        assert not head.away
    head.check(1.0)  # it is not asked that often
    assert not head.away
    head.check(10.0)
    assert head.away
    with socket.create_server(("127.0.0.1", int(head.address.rpartition(":")[2]))):
        head.check(10.0 + HEAD_SECONDS - 1)
        assert not head.away
    head.check(200.0)
    head.check(200.0 + HEAD_SECONDS / 2)
    with pytest.raises(PoolError, match="has not answered for 30 s"):
        head.check(200.0 + HEAD_SECONDS)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_ends_when_the_head_is_gone_and_goes_on_without_a_cluster(tmp_path: Path) -> None:
    collection = open_store(str(tmp_path / "s")).latents["head"]
    ids = [f"img-{k:04d}" for k in range(400)]
    collection.start(Plan.of("invert", {}, {}, ids, 2))
    mark = f"head-{uuid.uuid4().hex[:8]}"
    with RayCluster(mark, 1, {"OMP_NUM_THREADS": "1"}) as cluster:
        driver = start(cluster, collection, tmp_path / "log")
        try:
            wait_for(lambda: len(collection.done()) > 2 or driver.poll() is not None, 300, "the first parts")
            cluster.kill_head()
            killed = time.monotonic()
            assert driver.wait(timeout=120) != 0
            print(f"\nended after {time.monotonic() - killed:.0f} s")
        finally:
            kill(family({driver.pid}))
        said = (tmp_path / "log").read_text()
        assert "the head of the Ray cluster at 127.0.0.1" in said, said[-3000:]
        assert "Committed units are kept" in said
    stood = {index: (Path(collection.url) / f"part-{index:05d}.parquet").stat() for index in collection.done()}
    assert 2 < len(stood) < 200
    done = collection.done()
    left = [unit for unit in collection.plan().units if unit.index not in done]
    with open_pool("inline", quiet=True) as pool:
        pool.run(WorkerSpec(SlowWorker, {"collection": collection, "seconds": 0.0}), left)
    collection.finish()
    assert collection.read()["image_id"].to_pylist() == ids
    assert collection.manifest() is not None
    for index, before in stood.items():  # nothing is computed again
        assert (Path(collection.url) / f"part-{index:05d}.parquet").stat().st_mtime_ns == before.st_mtime_ns
