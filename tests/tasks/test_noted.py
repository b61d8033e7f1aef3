"""What a run that goes on reads of the one before."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganinv.data import open_dataset
from ganinv.store import Plan, open_store
from ganinv.store.objects import Objects
from tasks.noted import Noted, planned_place
from tasks.steps.align import AlignJob, aligned, plan_align
from tests.data.pictures import noise


def test_latents_that_came_of_no_data_set_say_nothing_of_its_place(tmp_path: Path) -> None:
    noise(20, 20, seed=0).save(tmp_path / "a.png")
    collection = open_store(str(tmp_path / "store")).latents["imported"]
    collection.start(Plan.of("import", {"origin": "elsewhere"}, {}, ["a"], 1))
    assert planned_place(collection, open_dataset(str(tmp_path)), str(tmp_path)) == str(tmp_path)


def test_the_plan_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the ids of all images, which may be millions."""
    noise(20, 20, seed=0).save(tmp_path / "a.png")
    job = AlignJob.model_validate(
        {"store": str(tmp_path / "store"), "dataset": {"url": str(tmp_path / "*.png")}, "detector": {"kind": "centre"}}
    )
    store, read, plans = open_store(job.store), Objects.read, list[str]()
    begun = aligned(store, job.name)
    first = begun.start(plan_align(job, job.dataset.open(), begun))

    def counting(self: Objects, path: str) -> bytes:
        plans.extend([path] if path.endswith("/plan.json") else [])
        return read(self, path)

    monkeypatch.setattr(Objects, "read", counting)
    again = aligned(store, job.name)
    assert plan_align(job, job.dataset.open(Noted(again)), again).ids == first.ids
    assert len(plans) == 1
