"""The chaos run in small: ``make chaos`` has a thousand images and twenty kills."""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

import pytest

from ganinv.store import Plan, open_store
from tasks.pool import WorkerSpec, open_pool
from tests.chaos.blows import draw, shared_out
from tests.chaos.processes import command, family, kill
from tests.chaos.run import run_chaos
from tests.chaos.storage import BUCKET, S3Server
from tests.chaos.workers import SlowWorker


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_that_everything_happens_to(tmp_path: Path) -> None:
    counts = shared_out(5)
    report = run_chaos(tmp_path, seed=2, images=256, counts=counts)
    assert report.ok, [check for check in report.checks if not check.ok]
    assert {what for _, _, what, _ in report.events} >= {"node", "spot", "driver", "s3"}, report.events
    assert report.own_ends == 0


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_workers_and_the_s3_server_killed_at_once(tmp_path: Path) -> None:
    ids = [f"img-{k:02d}" for k in range(40)]
    with S3Server("chaos-small", tmp_path) as server:
        server.files().mkdir(BUCKET)
        options = {"endpoint_url": server.url, "key": "test", "secret": "test"}
        collection = open_store(f"s3://{BUCKET}/s", **options).latents["small"]
        plan = collection.start(Plan.of("invert", {}, {}, ids, 2))
        monkey = threading.Thread(target=strike, args=(server,))
        monkey.start()
        with open_pool("ray", slots=2, quiet=True) as pool:
            summary = pool.run(WorkerSpec(SlowWorker, {"collection": collection, "seconds": 0.2}), plan.units)
        monkey.join()
        collection.finish()
        assert collection.read()["image_id"].to_pylist() == ids
        assert collection.errors().num_rows == 0
    assert summary.ok == 40
    assert summary.replaced_workers >= 1


def strike(server: S3Server) -> None:
    """Two workers and the server, as soon as there is something to lose."""
    rng = random.Random(0)
    for blow in range(3):
        while server.parts("s/latents/small") < 1 + 4 * blow:
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 0.3))
        if blow == 1:
            server.kill()
            time.sleep(0.5)
            server.start()
        else:
            kill(set(sorted(pid for pid in family({os.getpid()}) if command(pid).startswith("ray::Slot"))[:1]))


@pytest.mark.seconds
def test_what_was_acknowledged_survives_the_server(tmp_path: Path) -> None:
    with S3Server("chaos-journal", tmp_path) as server:
        server.files().mkdir(BUCKET)
        objects = open_store(f"s3://{BUCKET}/s", endpoint_url=server.url, key="test", secret="test").objects
        objects.put("a b/ü%2F.txt", b"1" * 100_000)
        objects.put("gone", b"x")
        objects.remove("gone")
        objects.create("once", b"first")
        server.kill()
        server.start()
        assert objects.read("a b/ü%2F.txt") == b"1" * 100_000
        assert objects.names("") == ["a b", "once"]
        with pytest.raises(FileExistsError):
            objects.create("once", b"second")


def test_blows_are_drawn_from_the_seed() -> None:
    counts = shared_out(20)
    assert counts == {"worker": 9, "node": 2, "spot": 1, "driver": 4, "s3": 4}
    assert list(shared_out(5).values()) == [1] * 5
    assert draw(1, counts, 63) == draw(1, counts, 63) != draw(2, counts, 63)
    moments = [blow.after for blow in draw(1, counts, 63)]
    assert moments == sorted(moments)
