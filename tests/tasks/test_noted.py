"""Where a run's data set lies, for a run whose plan has none."""

from __future__ import annotations

from pathlib import Path

from ganinv.data import open_dataset
from ganinv.store import Plan, open_store
from tasks.noted import planned_place
from tests.data.pictures import noise


def test_latents_that_came_of_no_data_set_say_nothing_of_its_place(tmp_path: Path) -> None:
    noise(20, 20, seed=0).save(tmp_path / "a.png")
    collection = open_store(str(tmp_path / "store")).latents["imported"]
    collection.start(Plan.of("import", {"origin": "elsewhere"}, {}, ["a"], 1))
    assert planned_place(collection, open_dataset(str(tmp_path)), str(tmp_path)) == str(tmp_path)
