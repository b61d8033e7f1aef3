"""How far a run came, from its objects alone."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ganinv.errors import StoreError
from ganinv.store import Plan, RowError, Store, open_store
from ganinv.store.failed import NOTE, FailedNote, noted
from ganinv.store.progress import progress, progress_at
from tests.store.rows import rows


def plan_of(count: int, unit_size: int) -> Plan:
    ids = (f"img-{k:06d}" for k in range(count))
    return Plan.of("invert", {"method": "e4e"}, {"generator_name": "g"}, ids, unit_size)


def write(store: Store, plan: Plan, index: int, failed: int = 0) -> None:
    ids = plan.units[index].ids
    errors = [RowError(i, "truncated", f"the file of {i} ends early") for i in ids[:failed]]
    store.latents["a"].write_part(index, rows(ids[failed:]), errors, {})


def test_of_a_run_that_goes_on(store: Store) -> None:
    plan = store.latents["a"].start(plan_of(25, 5))
    assert progress(store.latents["a"]).state == "planned"
    for index, failed in ((0, 2), (1, 0), (3, 5)):
        write(store, plan, index, failed)
    found = progress(store.collection("latents", "a"))
    assert (found.planned, found.done, found.failed, found.left) == (25, 8, 7, 10)
    status = store.latents["a"].status()
    assert (status.done, status.failed, status.left) == (found.done, found.failed, found.left)
    assert found.state == "running"
    assert found.last_part == pytest.approx(time.time(), abs=120)


def test_what_the_driver_noted_is_not_read_again(tmp_path: Path) -> None:
    """Tables that are newer than the note count themselves, such as those of a run that tries again; so does all if the note is
    none."""
    store = open_store(str(tmp_path))
    latents = store.latents["a"]
    plan = latents.start(plan_of(25, 5))
    for index, failed in ((0, 2), (1, 0), (3, 5)):
        write(store, plan, index, failed)
    note, folder = FailedNote(latents), Path(latents.url)
    note.count(0, 1)  # not true, to see where the number comes from
    note.write()
    for name, age in (
        ("errors-00000.parquet", 60),
        ("errors-00001.parquet", 60),
        ("errors-00003.parquet", 60),
        (NOTE, 30),
    ):
        os.utime(folder / name, (time.time() - age,) * 2)
    assert progress(latents).failed == 1 + 5
    os.utime(folder / "errors-00000.parquet", (time.time() - 30,) * 2)
    os.utime(folder / NOTE, ((folder / "errors-00000.parquet").stat().st_mtime,) * 2)
    assert progress(latents).failed == 2 + 5
    for content in (b"", b"[]", b"{", b'{"a": 1}'):
        (folder / NOTE).write_bytes(content)
        assert progress(latents).failed == 2 + 5
    assert FailedNote(latents, without=[0])._counts == {}


def test_a_note_is_written_now_and_then_and_goes_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latents = open_store(str(tmp_path)).latents["a"]
    latents.start(plan_of(25, 5))
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    note = FailedNote(latents, without=[2])
    now[0] = 11.0
    note.count(0, 0)
    note.count(2, 4)
    assert noted(latents) == {}  # nothing failed that it may tell of
    note.count(1, 3)
    assert noted(latents) == {1: 3}
    note.count(3, 1)
    assert noted(latents) == {1: 3}
    now[0] = 22.0
    note.count(4, 0)
    assert noted(latents) == {1: 3, 3: 1}
    again = FailedNote(latents, without=[1])  # another process goes on
    again.write()
    assert noted(latents) == {3: 1}
    again.remove()
    assert not (Path(latents.url) / NOTE).exists()


def test_a_note_that_cannot_be_written_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(str(tmp_path))
    latents = store.latents["a"]
    plan = latents.start(plan_of(25, 5))
    write(store, plan, 0, 2)
    note = FailedNote(latents)
    (Path(latents.url) / NOTE / "in the way").mkdir(parents=True)
    monkeypatch.setattr("ganinv.store.failed.PAUSE", 0.0)
    note._due = 0.0
    note.count(0, 2)
    assert "could not be noted" in caplog.text


def test_of_a_finished_run(store: Store) -> None:
    plan = store.latents["a"].start(plan_of(4, 2))
    for index in range(2):
        write(store, plan, index, failed=2)  # every errors table has rows: none may be taken for an empty one
    assert progress(store.latents["a"]).state == "running"
    store.latents["a"].finish()
    found = progress(store.latents["a"])
    assert (found.state, found.done, found.failed, found.left, found.seconds_left) == ("finished", 0, 4, 0, 0.0)


def test_a_url_names_a_collection_or_a_store(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "s"))
    store.latents["a"].start(plan_of(4, 2))
    store.samples["b"].start(plan_of(6, 2))
    store.objects.put("reports/report.html", b"<html>")
    assert [p.collection for p in progress_at(store.url)] == ["latents/a", "samples/b"]
    (one,) = progress_at(f"{store.url}/samples/b/")
    assert (one.collection, one.left) == ("samples/b", 6)
    with pytest.raises(StoreError, match="nothing was run"):
        progress_at(str(tmp_path / "other"))


def test_rate_and_time_left_are_those_since_the_last_pause(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    plan = store.latents["a"].start(plan_of(100, 5))
    now = time.time()
    # Five parts in 40 s, a night, then five more, one every 20 s; the last of them just now.
    ages = [*(40_000 - 10 * k for k in range(5)), *(80 - 20 * k for k in range(5))]
    for index, age in enumerate(ages):
        write(store, plan, index)
        part = Path(store.latents["a"].url) / f"part-{index:05d}.parquet"
        os.utime(part, (now - age, now - age))
    found = progress(store.latents["a"])
    assert found.rate == pytest.approx(5 / 20, rel=1e-3)
    assert found.seconds_left == pytest.approx(50 / 0.25, rel=1e-3)
    assert found.state == "running"
    for part in Path(store.latents["a"].url).glob("part-*"):
        os.utime(part, (part.stat().st_mtime - 9_000,) * 2)
    assert progress(store.latents["a"]).state == "silent"


@pytest.mark.seconds
def test_a_hundred_thousand_images(tmp_path: Path) -> None:
    """Planning takes less than 20 s and status less than 5 s of this process's time, whatever else the machine does."""
    store = open_store(str(tmp_path))
    collection = store.latents["a"]
    began = time.process_time()
    plan = collection.start(plan_of(100_000, 16))
    again = open_store(str(tmp_path)).latents["a"].start(plan_of(100_000, 16))
    planning = time.process_time() - began
    assert again.units_digest == plan.units_digest
    assert len(plan.units) == 6250

    # Two real units, one with errors; the others are copies, which spares the test what writing them would take.
    write(store, plan, 0)
    write(store, plan, 1, failed=3)
    folder = Path(collection.url)
    contents = [
        {kind: (folder / f"{kind}-{k:05d}.parquet").read_bytes() for kind in ("part", "errors")} for k in (0, 1)
    ]
    for index in range(2, 5000):
        for kind, content in contents[index % 10 == 1].items():
            (folder / f"{kind}-{index:05d}.parquet").write_bytes(content)
    began = time.process_time()
    found = progress(open_store(str(tmp_path)).latents["a"])
    asking = time.process_time() - began
    print(f"\n100,000 images: planning twice {planning:.2f} s, status {asking:.2f} s")
    assert (found.planned, found.failed) == (100_000, 500 * 3)
    assert found.left == 1250 * 16
    assert planning < 20
    assert asking < 5
