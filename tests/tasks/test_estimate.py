"""What an inversion will cost: from runs in the store, from the table, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganinv.errors import RunConflict
from ganinv.store import Store, open_store
from tasks.engine import Engine, open_pools
from tasks.estimate import Estimate, estimate
from tasks.sources import DatasetRef
from tasks.steps.invert import InvertJob, plan_invert, run_invert

INLINE = Engine(kind="inline", quiet=True)


@pytest.fixture(scope="module")
def faces(demo_pictures: Path) -> str:
    return str(demo_pictures)


def job_of(store: Store, faces: str, limit: int, **more: object) -> InvertJob:
    fields = {"store": store.url, "dataset": DatasetRef(url=faces, limit=limit), "unit_size": 2, **more}
    return InvertJob.model_validate(fields)


def ask(store: Store, job: InvertJob, engine: Engine = INLINE) -> Estimate:
    return estimate(store, store.latents[job.collection_name], plan_invert(job), engine)


def test_from_the_table_where_the_store_knows_nothing(tmp_path: Path, faces: str) -> None:
    store = open_store(str(tmp_path / "s"))
    job = job_of(store, faces, 6, method="pti")
    found = ask(store, job, Engine(kind="ray", slots=2))
    assert (found.images, found.left, found.units, found.slots) == (6, 6, 3, 2)
    assert found.seconds == pytest.approx(6 * 1.5 / 2)
    assert found.cpu_hours == pytest.approx(6 * 1.5 / 3600)
    assert found.gpu_hours == 0
    assert found.bytes == 6 * 165000
    assert "docs/leaderboard" in found.line()
    assert not (tmp_path / "s").exists()  # nothing is written


def test_what_is_not_measured_costs_less(tmp_path: Path, faces: str) -> None:
    store = open_store(str(tmp_path / "s"))
    whole, plain = (ask(store, job_of(store, faces, 6, method="e4e", measure=m)) for m in (True, False))
    assert whole.seconds is not None
    assert plain.seconds is not None
    assert plain.seconds < whole.seconds / 3


def test_an_unknown_cost_is_not_guessed(tmp_path: Path, faces: str) -> None:
    store = open_store(str(tmp_path / "s"))
    found = ask(store, job_of(store, faces, 4, method="e4e"), Engine(kind="ray", slots=2, gpus_per_slot=1))
    assert (found.left, found.seconds, found.bytes) == (4, None, None)
    assert "--limit 16" in found.line()


@pytest.mark.seconds
def test_a_trial_in_the_store_is_what_the_estimate_comes_from(tmp_path: Path, faces: str) -> None:
    store = open_store(str(tmp_path / "s"))
    with open_pools(INLINE) as pools:
        run_invert(job_of(store, faces, 4, method="e4e", name="trial"), pools)
    seconds = store.latents["trial"].timings()["seconds"].to_pylist()
    job = job_of(store, faces, 10, method="e4e")
    found = ask(store, job)
    assert found.left == 10
    assert found.seconds == pytest.approx(10 * sum(seconds) / 4)
    assert found.source == "measured on 4 images of latents/trial"
    assert found.bytes is not None
    assert found.bytes > 10 * 1000
    on_gpus = ask(store, job, Engine(kind="ray", slots=2, gpus_per_slot=1.0))
    assert (on_gpus.seconds, on_gpus.left) == (None, 10)  # a trial on cores says nothing about them
    with open_pools(INLINE) as pools:
        run_invert(job, pools)
    assert ask(store, job).line() == "0 of 10 images to invert, in 0 units"
    with pytest.raises(RunConflict, match="seed"):
        ask(store, job.model_copy(update={"seed": 5}))
