"""Plans that grow: images that come later are planned in additions, and nothing that is there is written again."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from ganinv.errors import RunConflict, StoreError
from ganinv.store import Collection, Plan, RowError, Status, Store, open_store
from ganinv.store.growth import read_on
from ganinv.store.objects import Objects
from ganinv.store.progress import progress
from tests.store.rows import rows

FIRST = ["b", "d", "f", "h", "j"]


@pytest.fixture
def local(tmp_path: Path) -> Store:
    """For what does not depend on the kind of storage."""
    return open_store(str(tmp_path / "store"))


def plan_of(ids: Sequence[str], unit_size: int = 2, steps: int = 5) -> Plan:
    return Plan.of("invert", {"steps": steps}, {"generator_fingerprint": "f00"}, ids, unit_size)


def compute(collection: Collection, plan: Plan) -> list[str]:
    """The ids of the units that were missing, after they were written and the run was finished."""
    done = collection.done()
    left = [unit for unit in plan.units if unit.index not in done]
    for unit in left:
        collection.write_part(unit.index, rows(unit.ids), [], dict.fromkeys(unit.ids, 0.1))
    collection.finish(plan)
    return [image_id for unit in left for image_id in unit.ids]


def run(store: Store, ids: Sequence[str], unit_size: int = 2) -> list[str]:
    collection = store.latents["a"]
    return compute(collection, collection.start(plan_of(ids, unit_size), grows=True))


def contents(store: Store, *without: str) -> dict[str, bytes]:
    folder = "latents/a"
    return {name: store.objects.read(f"{folder}/{name}") for name in store.objects.names(folder) if name not in without}


@pytest.mark.seconds
def test_what_is_new_is_computed_and_nothing_else_changes(store: Store) -> None:
    assert run(store, FIRST) == FIRST
    first = contents(store, "_manifest.json")
    assert run(store, [*FIRST, "a", "e", "k"]) == ["a", "e", "k"]
    second = contents(store, "_manifest.json")
    assert run(store, [*FIRST, "a", "c", "e", "k", "z"], unit_size=1) == ["c", "z"]
    third = contents(store, "_manifest.json")
    assert first.items() <= second.items() <= third.items()
    collection = store.latents["a"]
    assert collection.plan().additions == (3, 5)
    assert [unit.ids for unit in collection.plan().units[3:]] == [("a", "e"), ("k",), ("c",), ("z",)]
    everything = sorted([*FIRST, "a", "c", "e", "k", "z"])
    assert collection.plan().ids == collection.read()["image_id"].to_pylist() == everything
    assert collection.status() == Status(planned=10, done=10, failed=0, left=0)
    manifest = collection.manifest()
    assert manifest is not None
    assert (manifest.rows, len(manifest.parts)) == (10, 7)
    assert run(store, everything) == []
    assert contents(store, "_manifest.json") == third


@pytest.mark.seconds
def test_rows_of_a_grown_collection_are_found_and_sorted(store: Store) -> None:
    run(store, FIRST)
    run(store, [*FIRST, "a", "e", "k"])
    collection = store.latents["a"]
    assert collection.read(["image_id"], ids=["k", "e", "b"])["image_id"].to_pylist() == ["b", "e", "k"]
    assert collection.read(["mse"]).schema.names == ["mse"]
    w = collection.read(["w"])
    assert w.schema.names == ["w"]
    assert [row[0][0] for row in w["w"].combine_chunks().to_numpy_ndarray()] == [float(ord(i)) for i in "abdefhjk"]
    scanned = [i for batch in collection.scan(["image_id"]) for i in batch["image_id"].to_pylist()]
    assert scanned == [*FIRST, "a", "e", "k"]
    with pytest.raises(StoreError, match=r"never to hold 1 of these ids.*'c'"):
        collection.read(ids=["a", "c"])


def test_an_edit_has_several_rows_that_stay_in_their_order(local: Store) -> None:
    collection = local.latents["a"]
    for ids in (["b"], ["a", "b"]):
        plan = collection.start(plan_of(ids), grows=True)
        unit = plan.units[-1]
        table = rows([unit.ids[0]] * 3).drop_columns("mse").append_column("strength", [[2.0, -1.0, 0.0]])
        collection.write_part(unit.index, table, [], {})
    table = collection.read(["image_id", "strength"])
    assert table["image_id"].to_pylist() == ["a"] * 3 + ["b"] * 3
    assert table["strength"].to_pylist() == [2.0, -1.0, 0.0] * 2


def test_images_that_went_keep_their_rows(local: Store, caplog: pytest.LogCaptureFixture) -> None:
    run(local, FIRST)
    before = contents(local)
    with caplog.at_level(logging.WARNING, "ganinv.store"):
        assert run(local, FIRST[2:]) == []
    assert "2 of the 5 images" in caplog.text
    assert "'b'" in caplog.text
    assert contents(local) == before
    assert run(local, [*FIRST[3:], "c"]) == ["c"]
    assert local.latents["a"].read(["image_id"]).num_rows == 6


def test_only_steps_that_say_so_grow(local: Store) -> None:
    run(local, FIRST)
    with pytest.raises(RunConflict, match="1 images came and 2 went"):
        local.latents["a"].start(plan_of([*FIRST[2:], "z"]))
    with pytest.raises(RunConflict, match="steps is 5 there, 6 now"):
        local.latents["a"].start(plan_of([*FIRST, "z"], steps=6), grows=True)
    assert local.latents["a"].plan().ids == FIRST
    assert local.latents["a"].manifest() is not None


@pytest.mark.seconds
def test_status_while_a_finished_collection_grows(store: Store) -> None:
    run(store, FIRST)
    assert progress(store.latents["a"]).state == "finished"
    collection = store.latents["a"]
    if not store.url.startswith(("memory", "s3")):
        for name in store.objects.names("latents/a"):  # it was finished a day ago
            os.utime(f"{collection.url}/{name}", (time.time() - 86400,) * 2)
    plan = collection.start(plan_of([*FIRST, "k", "l", "m"]), grows=True)
    assert collection.manifest() is None
    found = progress(store.latents["a"])
    assert (found.state, found.planned, found.done, found.left) == ("running", 8, 5, 3)
    # A run that did not know of them may have written its manifest just now.
    compute_first = Plan.from_json(store.objects.read("latents/a/plan.json"), "")
    assert len(collection.finish(compute_first).parts) == 3
    assert collection.manifest() is None
    collection.write_part(3, rows(["k"]), [RowError("l", "missing", "gone")], {})
    found = progress(store.latents["a"])
    assert (found.state, found.done, found.failed, found.left) == ("running", 6, 1, 1)
    assert compute(collection, plan) == ["m"]
    found = progress(store.latents["a"])
    assert (found.state, found.done, found.failed, found.left) == ("finished", 7, 1, 0)


def test_failed_images_of_an_addition_are_tried_again(local: Store) -> None:
    run(local, FIRST)
    collection = local.latents["a"]
    collection.start(plan_of([*FIRST, "a", "e"]), grows=True)
    collection.write_part(3, rows(["a"]), [RowError("e", "missing", "gone")], {})
    assert collection.finish().failed == 1
    assert [(unit.index, unit.ids) for unit in collection.reopen()] == [(3, ("e",))]
    collection.write_part(3, rows(["e"]), [], {})
    assert collection.finish().rows == 7


def test_killed_after_the_addition_and_before_its_first_part(local: Store) -> None:
    run(local, FIRST)
    local.latents["a"].start(plan_of([*FIRST, "k", "l"]), grows=True)  # and no more
    assert run(local, [*FIRST, "k", "l"]) == ["k", "l"]
    assert local.latents["a"].plan().additions == (3,)


def test_who_finishes_late_leaves_the_manifest_of_all(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run adds an image and finishes while this one's manifest is on its way."""
    collection = local.latents["a"]
    plan = collection.start(plan_of(FIRST), grows=True)
    for unit in plan.units:
        collection.write_part(unit.index, rows(unit.ids), [], {})
    whole, others = Objects.put, iter(["z"])

    def put(self: Objects, path: str, data: bytes) -> None:
        if path.endswith("_manifest.json"):
            for more in others:
                run(local, [*FIRST, more])
        whole(self, path, data)

    monkeypatch.setattr(Objects, "put", put)
    collection.finish(plan)
    manifest = local.latents["a"].manifest()
    assert manifest is not None
    assert manifest.rows == len(FIRST) + 1


@pytest.mark.seconds
def test_two_that_grow_at_once_are_both_complete(store: Store) -> None:
    """By different images, some of them the same, each from its own listing of the data set."""
    run(store, FIRST)
    ready = Barrier(4)

    def grow(more: str) -> tuple[Plan, list[str]]:
        collection = store.latents["a"]
        collection.plan()
        ready.wait(60)
        plan = collection.start(plan_of([*FIRST, *more], unit_size=1), grows=True)
        return plan, compute(collection, plan)

    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(grow, ["ac", "ce", "xyz", "ac"]))
    for (plan, _), more in zip(ended, ["ac", "ce", "xyz", "ac"], strict=True):
        assert {*FIRST, *more} <= set(plan.ids)
    collection = store.latents["a"]
    everything = sorted([*FIRST, *"acexyz"])
    assert collection.plan().ids == collection.read()["image_id"].to_pylist() == everything
    assert [unit.index for unit in collection.plan().units] == list(range(3 + 6))
    manifest = collection.manifest()
    assert manifest is not None
    assert manifest == collection.finish()
    assert manifest.rows == len(everything)


def test_what_workers_need_is_there_before_an_addition_is_seen(local: Store) -> None:
    run(local, FIRST)
    seen: list[tuple[list[str], list[str]]] = []

    def prepare(plan: Plan) -> None:
        seen.append((plan.ids, local.latents["a"].plan().ids))
        if len(seen) == 1:  # another run is first
            local.latents["a"].start(plan_of([*FIRST, "c"]), grows=True)

    local.latents["a"].start(plan_of([*FIRST, "c", "e"]), grows=True, prepare=prepare)
    assert seen == [(sorted([*FIRST, "c", "e"]), FIRST), (sorted([*FIRST, "c", "e"]), sorted([*FIRST, "c"]))]
    with pytest.raises(RunConflict):
        local.latents["a"].start(plan_of([*FIRST, "z"], steps=6), grows=True, prepare=prepare)
    assert len(seen) == 2


@pytest.mark.seconds
def test_a_worker_of_before_finds_what_came_after(store: Store) -> None:
    run(store, FIRST)
    old = store.latents["a"]
    assert old.plan().additions == ()
    store.latents["a"].start(plan_of([*FIRST, "c"]), grows=True)
    old.write_part(3, rows(["c"]), [], {})
    older = store.latents["a"]
    older.plan()
    store.latents["a"].start(plan_of([*FIRST, "c", "e"]), grows=True)
    store.latents["a"].write_part(4, rows(["e"]), [], {})
    assert older.read(["mse"], ids=["e"]).num_rows == 1
    with pytest.raises(StoreError, match="has units 0 to 4, got 5"):
        old.write_part(5, rows(["x"]), [], {})


@pytest.mark.parametrize("name", ["plan.json", "plan-0001.json", "plan-0002.json"])
def test_a_file_that_was_changed_by_hand_is_noticed(local: Store, name: str) -> None:
    run(local, FIRST)
    run(local, [*FIRST, "k", "l"])
    run(local, [*FIRST, "k", "l", "m"])
    path = f"latents/a/{name}"
    changed = {
        "plan.json": (b'"f00"', b'"f01"'),
        "plan-0001.json": (b'"k"', b'"q"'),
        "plan-0002.json": (b'"m"', b'"q"'),
    }
    data = local.objects.read(path)
    assert changed[name][0] in data
    local.objects.put(path, data.replace(*changed[name]))
    with pytest.raises(StoreError, match=r"plan-000\d\.json does not continue the plan before it"):
        local.latents["a"].plan()
    local.objects.put("latents/a/plan-0001.json", b"{}")
    with pytest.raises(StoreError, match=r"plan-0001\.json is not an addition to a plan"):
        local.latents["a"].plan()


@pytest.mark.seconds
def test_reading_a_plan_lists_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run(store, FIRST)
    for k in range(6):
        run(store, [*FIRST, *"klmnop"[: k + 1]])
    asked: list[str] = []
    read = Objects.read_if_there

    def noted(self: Objects, path: str) -> bytes | None:
        asked.append(path)
        return read(self, path)

    monkeypatch.setattr(Objects, "read_if_there", noted)
    monkeypatch.setattr(Objects, "_list", None)
    collection = store.latents["a"]
    assert len(collection.plan().additions) == 6
    assert len(asked) == 1 + 1 + 2 + 4
    asked.clear()
    assert read_on(store.objects, "latents/a", collection._planned) is collection._planned
    assert asked == ["latents/a/plan-0007.json"]


@pytest.mark.parametrize("removed", range(4))
def test_a_cut_removal_leaves_plans_that_hold_together(
    local: Store, monkeypatch: pytest.MonkeyPatch, removed: int
) -> None:
    run(local, FIRST)
    run(local, [*FIRST, "k"])
    run(local, [*FIRST, "k", "l"])
    count: Iterator[int] = iter(range(removed))
    remove = Objects.remove

    def some(self: Objects, path: str) -> None:
        if "/plan" in path and next(count, None) is None:
            raise KeyboardInterrupt
        remove(self, path)

    monkeypatch.setattr(Objects, "remove", some)
    if removed < 3:
        with pytest.raises(KeyboardInterrupt):
            local.latents["a"].remove()
        monkeypatch.undo()
        assert len(local.latents["a"].plan().additions) == 2 - removed
    monkeypatch.undo()
    local.latents["a"].remove()
    assert not local.latents["a"].exists()
    assert local.objects.names("latents/a") == []
