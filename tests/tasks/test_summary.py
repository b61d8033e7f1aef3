"""The summary beside a collection after its runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ganinv.data import open_dataset
from ganinv.store import Collection, Plan, open_store
from tasks.engine import Engine, open_pools, run_units
from tasks.pool import RunStopped, WorkerSpec
from tasks.summary import TABLE, read_summary
from tests.tasks.workers import StoringWorker, units_of


def run(collection: Collection, stop_after: int | None = None, **faults: Any) -> None:
    """Twelve images in units of three, in this process."""
    ids = [image_id for unit in units_of(12, 3) for image_id in unit.ids]
    plan = Plan.of("square", {}, {"method": "squares"}, ids, 3)
    committed = Path(str(faults["folder"])) / "commits"

    def should_stop() -> bool:
        return stop_after is not None and committed.exists() and len(committed.read_text().split()) >= stop_after

    with open_pools(Engine(kind="inline", quiet=True), should_stop=should_stop) as pools:
        run_units(
            collection, plan, WorkerSpec(StoringWorker, {"url": collection.objects.url, **faults}), pools, "square"
        )


@pytest.mark.seconds
def test_each_run_is_a_row_and_the_text_tells_the_whole(tmp_path: Path) -> None:
    collection = open_store(str(tmp_path / "store")).collection("squares", "a")
    faults: dict[str, Any] = {"folder": str(tmp_path), "refuse": ["img-4"], "raise_on": ["img-7"]}
    with pytest.raises(RunStopped):
        run(collection, stop_after=1, **faults)
    run(collection, **faults)
    run(collection, **faults)  # nothing was left: no run
    first, second = pq.read_table(tmp_path / "store/squares/a" / TABLE).to_pylist()
    assert (first["outcome"], first["images"], first["ok"], first["retries"]) == ("stopped", 12, 3, None)
    assert (second["outcome"], second["images"], second["ok"], second["failed"]) == ("finished", 9, 7, 2)
    assert dict(second["reasons"]) == {"refused": 1, "value_error": 1}
    assert second["retries"] > 0
    assert second["cpu_seconds"] > 0
    assert second["started"] > first["started"]
    text = read_summary(collection.url)
    assert "12 images: 10 done, 2 failed, 0 left (finished). Method squares." in text
    assert text.count(" UTC | ") == 2
    assert "| value_error | 1 |" in text


def test_it_is_no_part_of_the_table_and_goes_with_it(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    collection = store.collection("squares", "a")
    run(collection, folder=str(tmp_path))
    assert collection.read().num_rows == 12
    assert len(open_dataset(collection.url, image_column="png")) == 12  # as a data set: the parts alone
    collection.remove()
    assert read_summary(collection.url) == ""
    assert store.list("squares") == []
