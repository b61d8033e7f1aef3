"""The rules of the pool, on the engine without processes: each rule has a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ganinv.errors import ConfigError, GeneratorMismatch, StoreError
from tasks.pool import PoolError, RunSummary, UnitReport, WorkerSpec, open_pool
from tasks.pool import ledger as pool_ledger
from tasks.pool import slot as pool_slot
from tasks.pool.slot import cut
from tests.tasks.workers import FolderWorker, broken_factory, calls, commits, parts, units_of


def run(folder: Path, units: Any, reports: list[UnitReport] | None = None, **kwargs: Any) -> RunSummary:
    with open_pool("inline", quiet=True) as pool:
        spec = WorkerSpec(FolderWorker, {"folder": str(folder), **kwargs})
        return pool.run(spec, units, on_report=reports.append if reports is not None else None)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_ledger, "LONGEST_PAUSE", 0.01)


def test_every_unit_is_committed_once(tmp_path: Path) -> None:
    reports: list[UnitReport] = []
    summary = run(tmp_path, units_of(10, 4), reports)
    assert parts(tmp_path)[0] == {f"img-{i}": i * i for i in range(10)}
    assert [(r.index, r.ok, r.failed) for r in reports] == [(0, 4, 0), (1, 4, 0), (2, 2, 0)]
    assert (summary.units, summary.ok, summary.failed, summary.retries) == (3, 10, 0, 0)
    assert set(summary.as_dict()) == {"units", "ok", "failed", "seconds", "retries", "replaced_workers"}


def test_no_units_is_no_work() -> None:
    with open_pool("inline") as pool:
        assert pool.run(WorkerSpec(broken_factory, {"error": ValueError("never built")}), []).units == 0


def test_a_row_error_fails_its_image_only(tmp_path: Path) -> None:
    summary = run(tmp_path, units_of(6, 3), refuse=["img-4"])
    rows, failures = parts(tmp_path)
    assert (summary.ok, summary.failed, summary.retries) == (5, 1, 0)
    assert failures["img-4"].code == "refused"
    assert len(rows) == 5


@pytest.mark.seconds
@pytest.mark.parametrize("position", [0, 3, 7])
def test_an_image_that_raises_is_found_and_the_rest_is_committed(tmp_path: Path, position: int) -> None:
    summary = run(tmp_path, units_of(16, 8), raise_on=[f"img-{8 + position}"])
    rows, failures = parts(tmp_path)
    assert set(failures) == {f"img-{8 + position}"}
    assert failures[f"img-{8 + position}"].code == "value_error"
    assert f"cannot square img-{8 + position} (workers.py:" in failures[f"img-{8 + position}"].message
    assert len(rows) == 15
    assert commits(tmp_path) == [0, 1]
    assert summary.retries == failures[f"img-{8 + position}"].attempts == 1 + 3  # one try, then halves of 8


@pytest.mark.seconds
def test_the_search_for_an_image_says_each_error_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path, units_of(16, 8), raise_on=["img-9"])
    said = [record.getMessage() for record in caplog.records if record.name == "ganinv.pool"]
    assert len(said) == 1
    assert said[0].startswith("unit 1: ValueError: cannot square img-9")


@pytest.mark.seconds
def test_two_images_that_raise_in_one_unit(tmp_path: Path) -> None:
    run(tmp_path, units_of(9, 9), raise_on=["img-2", "img-7"])
    rows, failures = parts(tmp_path)
    assert set(failures) == {"img-2", "img-7"}
    assert len(rows) == 7


def test_code_that_raises_is_not_tried_again(tmp_path: Path) -> None:
    run(tmp_path, units_of(2, 1), raise_on=["img-1"])
    assert parts(tmp_path)[1]["img-1"].attempts == 1
    assert calls(tmp_path).count(["img-1"]) == 1


def test_out_of_memory_halves_the_work(tmp_path: Path) -> None:
    summary = run(tmp_path, units_of(8, 8), memory=2)
    assert summary.ok == 8
    assert [len(ids) for ids in calls(tmp_path)] == [8, 4, 2, 2, 2, 2]


@pytest.mark.seconds
def test_an_image_that_never_fits_becomes_an_error_row(tmp_path: Path) -> None:
    with open_pool("inline", quiet=True) as pool:
        summary = pool.run(WorkerSpec(FolderWorker, {"folder": str(tmp_path), "memory": 0}), units_of(2, 2))
    assert (summary.ok, summary.failed) == (0, 2)
    assert {failure.code for failure in parts(tmp_path)[1].values()} == {"memory_error"}


def test_a_store_that_recovers_is_written_again(tmp_path: Path) -> None:
    summary = run(tmp_path, units_of(4, 2), broken_commits=3)
    assert (summary.ok, summary.retries) == (4, 3)
    assert parts(tmp_path)[1] == {}


@pytest.mark.seconds
def test_storage_that_is_away_for_a_while_is_no_images_fault(tmp_path: Path) -> None:
    summary = run(tmp_path, units_of(4, 2), away=8)
    assert (summary.ok, summary.failed, summary.retries) == (4, 0, 8)
    assert calls(tmp_path)[:9] == [["img-0", "img-1"]] * 9


@pytest.mark.seconds
def test_storage_that_stays_away_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError):
        run(tmp_path, units_of(4, 2), away=100)
    assert not (tmp_path / "commits").exists()


def test_a_lost_node_is_no_images_fault() -> None:
    """Ten times in a row, while its images are searched for one that kills workers too."""
    ledger = pool_ledger.Ledger(units_of(4, 4), in_order=False)
    now = 0.0

    def outcome(kind: Any, report: UnitReport | None = None) -> pool_slot.Order:
        nonlocal now
        now += pool_ledger.LONGEST_PAUSE + 1
        order = ledger.take(now)
        assert order is not None
        ledger.record(order, pool_slot.Outcome(kind, report), now)
        return order

    for kind in ["lost"] * 5 + ["died"] * 3:
        assert outcome(kind).check is None
    assert [outcome("lost").check for _ in range(5)] == [("img-0", "img-1")] * 5
    assert [outcome("checked").check for _ in range(2)] == [("img-0", "img-1"), ("img-2", "img-3")]
    order = outcome("done", UnitReport(0, 4, 0, 1.0))
    assert (order.failures, order.check, order.pieces) == ((), None, 4)  # alone each went well: one by one then
    assert ledger.finished


def test_pauses_grow_to_a_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_ledger, "LONGEST_PAUSE", 30.0)
    assert [pool_ledger.pause(times) for times in (1, 2, 3, 7, 100)] == [0.5, 1.0, 2.0, 30.0, 30.0]


def test_units_keep_their_order_when_one_is_tried_again(tmp_path: Path) -> None:
    run(tmp_path, units_of(6, 2), raise_on=["img-2"], broken_commits=2)
    assert (tmp_path / "commits").read_text().split() == ["0", "1", "2"]


def test_a_store_that_stays_broken_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="disk is full"):
        run(tmp_path, units_of(4, 2), broken_commits=100)


def test_an_error_of_the_whole_run_stops_it_at_once(tmp_path: Path) -> None:
    with open_pool("inline") as pool, pytest.raises(GeneratorMismatch, match="another"):
        pool.run(WorkerSpec(broken_factory, {"error": GeneratorMismatch("another generator")}), units_of(2, 1))


def test_a_worker_that_cannot_be_built_says_why() -> None:
    with open_pool("inline") as pool, pytest.raises(ZeroDivisionError):
        pool.run(WorkerSpec(broken_factory, {"error": ZeroDivisionError("oh")}), units_of(2, 1))


@pytest.mark.seconds
def test_a_bug_stops_the_run_and_nothing_is_written(tmp_path: Path) -> None:
    everything = [f"img-{i}" for i in range(40)]
    with pytest.raises(PoolError, match=r"first 3 units failed.*cannot square"):
        run(tmp_path, units_of(40, 2), raise_on=everything)
    assert not (tmp_path / "commits").exists()


@pytest.mark.seconds
def test_bad_images_before_the_first_good_one_are_committed_in_the_end(tmp_path: Path) -> None:
    summary = run(tmp_path, units_of(8, 2), raise_on=["img-0", "img-1", "img-2", "img-3"])
    assert (summary.ok, summary.failed) == (4, 4)
    assert commits(tmp_path) == [0, 1, 2, 3]


def test_cut_keeps_order_and_leaves_no_group_empty() -> None:
    assert cut("abcde", 2) == [("a", "b"), ("c", "d", "e")]
    assert cut("ab", 5) == [("a",), ("b",)]
    assert cut("", 2) == []


@pytest.mark.parametrize(
    "wrong",
    [{"slots": 0}, {"deadline_seconds": 0}, {"gpus_per_slot": -1}, {"engine": "dask"}],
    ids=lambda w: next(iter(w)),
)
def test_a_pool_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError), open_pool(**wrong):
        pass
