from __future__ import annotations

import hashlib
import pickle
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from ganinv.errors import RunConflict, StoreError
from ganinv.store import Collection, Plan, RowError, Status, Store, open_store, tensor_numpy
from ganinv.store.objects import Objects
from ganinv.store.tensors import parquet_bytes

from .rows import IDS, rows, small_plan, write_all


@pytest.mark.seconds
def test_a_run_from_plan_to_manifest(store: Store) -> None:
    collection = store.latents["portraits"]
    assert not collection.exists()
    plan = collection.start(small_plan())
    assert [unit.ids for unit in plan.units] == [("a", "b"), ("c", "d"), ("e",)]
    assert collection.done() == set()
    write_all(collection, plan)
    assert collection.done() == {0, 1, 2}
    assert collection.manifest() is None
    manifest = collection.finish()
    assert collection.manifest() == manifest == collection.finish()
    assert (manifest.rows, manifest.failed, len(manifest.parts)) == (5, 0, 3)
    table = collection.read()
    assert table["image_id"].to_pylist() == sorted(IDS)
    assert tensor_numpy(table["w"])[:, 0, 0].tolist() == [97, 98, 99, 100, 101]
    assert collection.timings().num_rows == 5
    assert collection.errors().num_rows == 0
    assert collection.provenance()["generator_fingerprint"] == "f00"
    assert store.list("latents") == ["portraits"]
    assert "portraits" in store.latents
    assert list(store.edits) == []


@pytest.mark.seconds
def test_an_unfinished_collection_is_readable(store: Store) -> None:
    collection = store.latents["half"]
    plan = collection.start(small_plan())
    with pytest.raises(StoreError, match="no finished unit yet"):
        collection.read()
    collection.write_part(1, rows(["c"]), [RowError("d", "truncated", "cut short", 2)], {"c": 1.0, "d": 2.0})
    assert collection.status() == Status(planned=5, done=1, failed=1, left=3)
    assert collection.read(["image_id"])["image_id"].to_pylist() == ["c"]
    assert collection.read(["mse"], ids=["a"]).schema.names == ["mse"]
    assert collection.errors().to_pylist() == [
        {"image_id": "d", "code": "truncated", "message": "cut short", "attempts": 2}
    ]
    with pytest.raises(StoreError, match="2 of 3 units are left"):
        collection.finish()
    assert plan.ids == sorted(IDS)


def test_reading_some_columns_and_ids(store: Store) -> None:
    collection = store.latents["some"]
    write_all(collection, collection.start(small_plan()))
    chosen = collection.read(columns=["w"], ids=["e", "a"])
    assert chosen.schema.names == ["w"]
    assert tensor_numpy(chosen["w"])[:, 0, 0].tolist() == [97, 101]
    assert [batch.num_rows for batch in collection.scan(batch_size=1)] == [1] * 5
    with pytest.raises(StoreError, match=r"never to hold 1 of these ids.*'zz'"):
        collection.read(ids=["zz"])
    with pytest.raises(StoreError, match=r"no column 'msee', did you mean 'mse'\?"):
        collection.read(columns=["msee"])


def test_the_same_run_gets_the_first_plan(store: Store) -> None:
    collection = store.latents["again"]
    first = collection.start(small_plan())
    other_cut = Plan.of(first.stage, first.config, {**first.provenance, "seed": 2}, IDS, 3)
    assert store.latents["again"].start(other_cut) == first


def test_another_run_of_the_same_name_is_refused(store: Store) -> None:
    collection = store.latents["taken"]
    first = collection.start(small_plan())
    with pytest.raises(RunConflict, match=r"method\.steps is 5 there, 6 now.*another name.*remove"):
        collection.start(small_plan(steps=6))
    with pytest.raises(RunConflict, match=r"method\.lr is new \(0\.1\)"):
        collection.start(small_plan(lr=0.1))
    with pytest.raises(RunConflict, match=r"1 images came and 0 went, such as 'f'"):
        collection.start(Plan.of(first.stage, first.config, first.provenance, [*IDS, "f"], 2))
    with pytest.raises(RunConflict, match="generator_fingerprint is 'f00' there, 'bad' now"):
        collection.start(Plan.of(first.stage, first.config, {"generator_fingerprint": "bad"}, IDS, 2))
    write_all(collection, first)
    store.objects.put(f"{collection.path}/extras/a.safetensors", b"x")
    collection.remove()
    assert list(store.latents) == []
    assert not collection.exists()
    assert collection.start(small_plan(steps=6)).config["method"]["steps"] == 6


def test_one_of_many_starters_wins(store: Store) -> None:
    def start(steps: int) -> Plan | None:
        try:
            return store.collection("latents", "race").start(small_plan(steps=steps))
        except RunConflict:
            return None

    with ThreadPoolExecutor(8) as pool:
        plans = list(pool.map(start, range(8)))
    winners = [plan for plan in plans if plan is not None]
    assert len(winners) == 1
    assert store.latents["race"].plan() == winners[0]


def test_many_starters_of_one_run_agree(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        plans = list(pool.map(lambda _: store.latents["shared"].start(small_plan()), range(8)))
    assert all(plan == plans[0] for plan in plans)


def test_a_repeated_unit_gives_equal_bytes(store: Store) -> None:
    collection = store.latents["bytes"]
    collection.start(small_plan())
    part = f"{collection.path}/part-00000.parquet"
    collection.write_part(0, rows(["a", "b"]), [], {"a": 1.0, "b": 1.0})
    first = store.objects.read(part)
    collection.write_part(0, rows(["b", "a"]), [], {"a": 7.0, "b": 9.0})
    assert store.objects.read(part) == first


@pytest.mark.parametrize(
    ("ids", "errors", "what"),
    [
        (["a"], [], "without row or error, such as 'b'"),
        (["a", "b", "c"], [], "of another unit, such as 'c'"),
        (["a", "b"], [RowError("b", "x", "y")], "both rows and an error, such as 'b'"),
        (["a"], [RowError("b", "x", "y"), RowError("b", "x", "z")], "two errors for one image"),
    ],
)
def test_rows_in_equal_rows_out(tmp_path: object, ids: list[str], errors: list[RowError], what: str) -> None:
    collection = open_store(str(tmp_path)).latents["strict"]
    collection.start(small_plan())
    with pytest.raises(StoreError, match=what):
        collection.write_part(0, rows(ids), errors, {})
    assert collection.done() == set()


@pytest.mark.seconds
def test_units_where_all_failed_do_not_disturb_the_others(store: Store) -> None:
    collection = store.latents["failed"]
    plan = collection.start(small_plan())
    none = pa.table({"image_id": pa.array([], pa.string())})
    for unit in plan.units:
        if unit.index == 0:
            collection.write_part(0, none, [RowError(i, "x", "y") for i in unit.ids], {})
        else:
            collection.write_part(unit.index, rows(unit.ids), [], {})
    assert collection.finish().failed == 2
    assert collection.read().num_rows == 3
    assert collection.read(columns=["image_id", "w"]).num_rows == 3
    assert sum(batch.num_rows for batch in collection.scan(columns=["w"])) == 3


def test_store_and_collection_travel_to_workers(store: Store) -> None:
    collection = store.latents["travel"]
    collection.start(small_plan())
    again: Collection = pickle.loads(pickle.dumps(collection))
    assert again.plan() == collection.plan()
    assert pickle.loads(pickle.dumps(store)).latents["travel"].plan() == collection.plan()
    assert open_store(store.url, **store.options).latents["travel"].plan() == collection.plan()
    assert "secret" not in repr(store) + repr(collection)


def test_an_unknown_collection_names_the_nearest(store: Store) -> None:
    store.latents["portraits"].start(small_plan())
    with pytest.raises(StoreError, match=r"no latents named 'portrait'.*did you mean 'portraits'\?"):
        store.latents["portrait"].read()


def test_ids_must_be_unique() -> None:
    with pytest.raises(StoreError, match="'a' came twice"):
        Plan.of("invert", {}, {}, ["a", "b", "a"], 2)


def test_a_changed_plan_is_noticed(store: Store) -> None:
    collection = store.latents["edited"]
    text = collection.start(small_plan()).to_json().replace(b'"steps": 5', b'"steps": 7')
    store.objects.put(f"{collection.path}/plan.json", text)
    with pytest.raises(StoreError, match="was changed after it was written"):
        store.latents["edited"].plan()


@pytest.mark.seconds
def test_failed_images_are_tried_again_on_request(store: Store) -> None:
    collection = store.latents["again"]
    collection.start(small_plan())
    bad = [RowError("a", "not_finite", "nan"), RowError("b", "missing", "gone", 2)]
    collection.write_part(0, rows([]), bad, {"a": 1.0, "b": 2.0})
    collection.write_part(1, rows(["c"]), [RowError("d", "truncated", "cut")], {"c": 3.0, "d": 4.0})
    collection.write_part(2, rows(["e"]), [], {"e": 5.0})
    collection.finish()
    untouched = store.objects.read("latents/again/part-00002.parquet")
    assert [(unit.index, unit.ids) for unit in collection.reopen()] == [(0, ("a", "b")), (1, ("d",))]
    assert collection.manifest() is None
    assert collection.status().done == 2  # what is there stays readable meanwhile

    collection.write_part(0, rows(["b"]), [RowError("a", "not_finite", "nan again")], {"a": 7.0, "b": 8.0})
    collection.write_part(1, rows(["d"]), [], {"d": 9.0})
    assert [(unit.index, unit.ids) for unit in collection.reopen()] == [(0, ("a",))]
    manifest = collection.finish()
    assert (manifest.rows, manifest.failed) == (4, 1)
    assert tensor_numpy(collection.read()["w"])[:, 0, 0].tolist() == [98, 99, 100, 101]
    (error,) = collection.errors().to_pylist()
    assert (error["image_id"], error["message"], error["attempts"]) == ("a", "nan again", 2)
    times = {row["image_id"]: row["seconds"] for row in collection.timings().to_pylist()}
    assert times == {"a": 7.0, "b": 8.0, "c": 3.0, "d": 9.0, "e": 5.0}
    assert store.objects.read("latents/again/part-00002.parquet") == untouched


def test_images_that_are_left_out_of_a_new_part_are_still_refused(store: Store) -> None:
    collection = store.latents["missing"]
    collection.start(small_plan())
    with pytest.raises(StoreError, match="without row or error"):
        collection.write_part(0, rows(["a"]), [], {})
    write_all(collection, collection.plan())
    assert collection.reopen() == []
    collection.finish()
    assert collection.reopen() == []
    assert collection.manifest() is not None


@pytest.mark.parametrize("writes", [1, 2, 3])
def test_killed_while_failed_images_are_put_beside_the_others(
    store: Store, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """Wherever it ends, no row is lost, and the next request sets it right."""
    collection = store.latents["killed"]
    collection.start(small_plan())
    collection.write_part(0, rows(["a"]), [RowError("b", "missing", "gone")], {})
    put = type(store.objects).put
    done: list[str] = []

    def put_some(self: object, path: str, data: bytes) -> None:
        if len(done) == writes:
            raise KeyboardInterrupt
        done.append(path)
        put(self, path, data)  # type: ignore[arg-type]

    monkeypatch.setattr(type(store.objects), "put", put_some)
    if writes < 3:
        with pytest.raises(KeyboardInterrupt):
            collection.write_part(0, rows(["b"]), [], {})
    else:
        collection.write_part(0, rows(["b"]), [], {})
    monkeypatch.undo()
    there = set(collection.read()["image_id"].to_pylist()) | set(collection.errors()["image_id"].to_pylist())
    assert there == {"a", "b"}
    for unit in collection.reopen():
        collection.write_part(unit.index, rows(unit.ids), [], {})
    assert collection.read()["image_id"].to_pylist() == ["a", "b"]
    assert collection.errors().num_rows == 0


def test_the_manifest_is_written_without_reading_the_parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = store.latents["many"]
    write_all(collection, collection.start(small_plan()))
    read: list[str] = []
    whole = Objects.read

    def noted(self: Objects, path: str) -> bytes:
        read.append(path.rpartition("/")[2])
        return whole(self, path)

    monkeypatch.setattr(Objects, "read", noted)
    manifest = collection.finish()
    assert not [name for name in read if name.startswith("part")]
    for record in manifest.parts:  # and says what reading them would have said
        data = whole(collection.objects, f"{collection.path}/{record.name}")
        assert (record.bytes, record.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert record.rows == record.done == (1 if record.name == "part-00002.parquet" else 2)


def test_a_part_of_another_attempt_than_its_errors_table_is_read(store: Store) -> None:
    collection = store.latents["torn"]
    write_all(collection, collection.start(small_plan()))
    other = parquet_bytes(rows(["c"]), {"attempt": "of a worker that was thought dead"})
    collection.objects.put(f"{collection.path}/part-00001.parquet", other)
    record = collection.finish().parts[1]
    assert (record.rows, record.sha256) == (1, hashlib.sha256(other).hexdigest())
