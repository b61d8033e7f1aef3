"""The identity of an image: whatever becomes of a data set of distinct images, each has one row of its content under one id.

Random operations on folders, tar shards and Parquet shards, and after each few of them the run again, by the real planning,
indexes, units, parts and inline engine. Only the method is a cheap one: a row says of which bytes it is.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import tarfile
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import tasks.steps.invert
from ganinv.data import ImageRefused
from ganinv.data.index import SourceIndex
from ganinv.data.source import Place
from ganinv.stages.method import method_config
from ganinv.store import Collection, Plan, RowError, Unit, open_store
from tasks.engine import Engine, open_pools
from tasks.sources import DatasetRef
from tasks.steps.invert import InvertJob, list_images, run_invert

INLINE = Engine(kind="inline", quiet=True)
COMPUTED: list[str] = []
"""Ids, as workers compute them."""


class HashWorker:
    """Makes a row of the hash of each image's bytes."""

    def __init__(self, job: InvertJob, **_: Any) -> None:
        self.collection = open_store(job.store).latents[job.collection_name]
        self.index = SourceIndex(Place(job.dataset.url), self.collection.objects, self.collection.path)

    def process(self, ids: Sequence[str]) -> list[Any]:
        COMPUTED.extend(ids)
        some, rows = self.index.dataset(ids), list[Any]()
        for image_id in ids:
            if image_id not in some.sources:
                rows.append(RowError(image_id, "missing", "it went before it was computed"))
                continue
            try:
                data = some.read(image_id)
            except ImageRefused as error:
                rows.append(RowError(image_id, error.code, str(error)))
            else:
                rows.append((image_id, some.sources[image_id].uri, hashlib.sha256(data).hexdigest()))
        return rows

    def commit(self, unit: Unit, rows: list[Any], failures: Sequence[RowError]) -> Mapping[str, Any]:
        rows.sort()
        names = ("image_id", "source_uri", "source_sha256")
        table = pa.table({name: pa.array([row[k] for row in rows], pa.string()) for k, name in enumerate(names)})
        self.collection.write_part(unit.index, table, failures, {})
        return {}


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.steps.invert, "InvertWorker", HashWorker)


def run(job: InvertJob) -> tuple[Collection, Any]:
    """As ``ganinv invert``, but for the generator."""
    dataset = list_images(job)
    config = {"dataset": job.dataset.model_dump(mode="json"), "method": method_config("e4e").model_dump(mode="json")}
    plan = Plan.of("invert", config, {"method": "e4e"}, dataset.ids, 3)
    with open_pools(INLINE) as pools:
        result = run_invert(job, pools, plan, dataset)
    return open_store(job.store).latents["e4e"], result


@dataclass
class World:
    """A data set: shards, each of named things in an order. A folder is one shard without a file of its own."""

    kind: str
    root: str
    options: Mapping[str, Any] = field(default_factory=dict)
    shards: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    written: dict[str, bytes] = field(default_factory=dict)

    def contents(self) -> dict[str, str]:
        """URI -> sha256 of the image that is there."""
        fs = fsspec.url_to_fs(self.root, **self.options)[0]
        found = {}
        for shard, members in self.shards.items():
            for k, (name, number) in enumerate(members):
                digest = hashlib.sha256(image(number)).hexdigest()
                path = f"{self.root}/{self.file(shard, name)}"
                inside = {"folder": "", "tar": f"#{name}"}.get(self.kind, f"#{k}")
                found[(fs.unstrip_protocol(path) if "://" in self.root else path) + inside] = digest
        return found

    def file(self, shard: str, name: str) -> str:
        return name if self.kind == "folder" else f"{shard}.{'tar' if self.kind == 'tar' else 'parquet'}"

    def write(self) -> None:
        """Bring the storage to what is meant, touching only files that are to change; a renamed shard is moved."""
        fs, root = fsspec.url_to_fs(self.root, **self.options)
        wanted: dict[str, bytes] = {}
        for shard, members in self.shards.items():
            if self.kind == "folder":
                wanted |= {name: image(number) for name, number in members}
            elif members:
                wanted[self.file(shard, "")] = self.packed(members)
        for name in self.written.keys() - wanted.keys():
            fs.rm_file(f"{root}/{name}")
        for name, data in wanted.items():
            if self.written.get(name) != data:
                fs.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
                fs.pipe_file(f"{root}/{name}", data)
        self.written = wanted

    def packed(self, members: Sequence[tuple[str, int]]) -> bytes:
        sink = io.BytesIO()
        if self.kind == "tar":
            with tarfile.open(fileobj=sink, mode="w") as tar:
                for name, number in members:
                    info = tarfile.TarInfo(name)
                    info.size = len(image(number))
                    tar.addfile(info, io.BytesIO(image(number)))
            return sink.getvalue()
        columns: dict[str, Any] = {"image": pa.array([image(number) for _, number in members], pa.binary())}
        if self.kind == "ids":
            columns["image_id"] = [name for name, _ in members]
        pq.write_table(pa.table(columns), sink)
        return sink.getvalue()


def image(number: int) -> bytes:
    """Distinct bytes of equal length: nothing but the content tells them apart."""
    return b"image %08d" % number


def operate(world: World, draw: Any, fresh: Iterator[int]) -> None:
    """One thing that happens to data sets."""
    names = [f"{stem}{suffix}" for stem in ("a", "b", "sub/a") for suffix in (".jpg", ".png")]
    if world.kind == "ids":
        names = [f"{letter}{k}" for letter in "pq" for k in range(4)]
    shards = world.shards
    used = {name for members in shards.values() for name, _ in members}
    what = draw(
        st.sampled_from(("add", "add", "add", "replace", "remove", "reorder", "rename", "rename shard", "move"))
    )
    full = [shard for shard in sorted(shards) if shards[shard]]
    if what == "add" or not full:
        shard = "set" if world.kind == "folder" else draw(st.sampled_from(("x/s0", "x/s1", "y/s0")))
        here = {name for name, _ in shards.get(shard, [])} if world.kind == "tar" else used
        free = [name for name in names if name not in here]
        name = f"row-{next(fresh)}" if world.kind == "rows" else draw(st.sampled_from(free)) if free else None
        if name is not None:
            members = shards.setdefault(shard, [])
            members.insert(draw(st.integers(0, len(members))), (name, next(fresh)))
        return
    shard = draw(st.sampled_from(full))
    members = shards[shard]
    place = draw(st.integers(0, len(members) - 1))
    name, number = members[place]
    if what == "replace":
        members[place] = (name, next(fresh))
    elif what == "remove":
        del members[place]
    elif what == "reorder":
        shards[shard] = draw(st.permutations(members))
    elif what == "rename" and world.kind in ("folder", "tar"):
        free = [other for other in names if other not in {n for n, _ in members}]
        if free:
            members[place] = (draw(st.sampled_from(free)), number)
    elif what == "rename shard" and world.kind != "folder":
        other = draw(st.sampled_from(("x/s0", "x/s1", "y/s0", "z/s9")))
        if not shards.get(other):
            shards[other] = shards.pop(shard)
    elif what == "move" and world.kind in ("rows", "ids"):
        other = draw(st.sampled_from(("x/s0", "x/s1", "y/s0")))
        del members[place]
        shards.setdefault(other, []).append((name, number))


def go_through(world: World, store: str, draw: Any) -> None:
    """A sequence of runs with a few operations before each."""
    fresh = itertools.count()
    for shard in ("set",) if world.kind == "folder" else ("x/s0", "x/s1"):
        world.shards[shard] = []
    ever: set[str] = set()
    before: dict[str, tuple[str, str]] = {}
    for _ in range(draw(st.integers(2, 3))):
        for _ in range(draw(st.integers(1, 5))):
            operate(world, draw, fresh)
        if not any(world.shards.values()):
            continue
        world.write()
        now = world.contents()
        COMPUTED.clear()
        collection, result = run(InvertJob(store=store, dataset=DatasetRef(url=world.root), method="e4e"))
        rows = collection.read().to_pylist() if collection.done() else []
        after = {row["image_id"]: (row["source_sha256"], row["source_uri"]) for row in rows}
        ever |= set(now.values())
        digests = [digest for digest, _ in after.values()]
        # One row for each image that is or was there.
        assert len(rows) == len(after) == len(set(digests)) == result["rows"]
        assert set(now.values()) <= set(digests) <= ever
        assert collection.errors().num_rows == 0
        # What a row says of an image that is there is true of it.
        there = {digest: uri for uri, digest in now.items()}
        assert all(uri == there[digest] for digest, uri in after.values() if digest in there)
        if world.kind in ("folder", "tar"):  # rows are numbered: the place of one that went may be another's
            assert all(uri not in now for digest, uri in after.values() if digest not in there)
        # Nobody changes his id, and nobody is computed twice, unless by a new content.
        for image_id, (digest, uri) in before.items():
            if now.get(uri) == digest:
                assert after[image_id] == (digest, uri)
                assert image_id not in COMPUTED
        before = after
    if before:
        COMPUTED.clear()
        _, result = run(InvertJob(store=store, dataset=DatasetRef(url=world.root), method="e4e"))
        assert COMPUTED == []
        assert (result["changed"], result["moved"], result["units_computed"]) == (0, 0, 0)


MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
"""Where to put thousands of small files: a disk is asked for each whether it is written."""
KINDS = ("folder", "tar", "rows", "ids")
_QUIET: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.explicit, Phase.generate],  # a failure says all that happened; to shrink it takes minutes
}


def go_through_local_files(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        world = World(data.draw(st.sampled_from(KINDS)), f"{folder}/set")
        go_through(world, f"{folder}/store", data.draw)


@pytest.mark.slow
@pytest.mark.usefixtures("hashing")
@settings(max_examples=20, **_QUIET)
@given(data=st.data())
def test_random_operations_on_local_files(data: st.DataObject) -> None:
    go_through_local_files(data)


@pytest.mark.slow
@pytest.mark.usefixtures("hashing")
@settings(max_examples=80, **_QUIET)
@given(data=st.data())
def test_more_random_operations_on_local_files(data: st.DataObject) -> None:
    go_through_local_files(data)


@pytest.mark.slow
@pytest.mark.usefixtures("hashing")
@settings(max_examples=10, **_QUIET)
@given(data=st.data())
def test_random_operations_on_s3(data: st.DataObject, s3_environment: str) -> None:
    root = f"{s3_environment}/{uuid.uuid4().hex}"
    go_through(World(data.draw(st.sampled_from(KINDS)), f"{root}/set"), f"{root}/store", data.draw)


def written_tar(folder: Path, name: str, numbers: Sequence[int]) -> bytes:
    members = [(f"{number}.png", number) for number in numbers]
    data = World("tar", "").packed(members)
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    return data


@pytest.mark.usefixtures("hashing")
def test_a_shard_that_is_mended_loses_its_error_and_gives_its_images(tmp_path: Path) -> None:
    job = InvertJob(store=f"{tmp_path}/store", dataset=DatasetRef(url=f"{tmp_path}/set"), method="e4e")
    written_tar(tmp_path / "set", "a.tar", range(3))
    whole = written_tar(tmp_path / "set", "b.tar", range(3, 9))
    (tmp_path / "set/b.tar").write_bytes(whole[: whole.index(b"5.png")])
    collection, result = run(job)
    assert (result["rows"], result["failed"]) == (5, 1)
    assert [(e["image_id"], e["code"]) for e in collection.errors().to_pylist()] == [("b.tar", "shard")]
    (tmp_path / "set/b.tar").write_bytes(whole)
    COMPUTED.clear()
    collection, result = run(job)
    assert (result["rows"], result["failed"]) == (9, 0)
    assert COMPUTED == ["b/5", "b/6", "b/7", "b/8"]
    collection, result = run(job)
    assert (result["rows"], result["failed"], result["units_computed"]) == (9, 0, 0)


@pytest.mark.usefixtures("hashing")
@pytest.mark.parametrize("index", ["as it was", "none"])
@pytest.mark.parametrize("kind", ["tar", "rows"])
def test_a_run_of_an_older_version_goes_on_under_its_ids(kind: str, index: str, tmp_path: Path) -> None:
    """Then what was in a shard that was alone had no name of its shard, and an index had neither keys nor versions."""
    world = World(kind, f"{tmp_path}/set", {}, {"x": [("a.png", 0), ("b.png", 1)]})
    world.write()
    job = InvertJob(store=f"{tmp_path}/store", dataset=DatasetRef(url=world.root), method="e4e")
    old = {"tar": ["a", "b"], "rows": ["00000000", "00000001"]}[kind]
    today = list_images(job)
    collection = open_store(job.store).latents["e4e"]
    config = {"dataset": {"url": world.root, "image_column": None, "where": {}, "limit": None}}
    config["method"] = method_config("e4e").model_dump(mode="json")
    plan = collection.start(Plan.of("invert", config, {"method": "e4e"}, old, 3))
    sources = dict(zip(old, today.sources.values(), strict=True))
    digests = [hashlib.sha256(image(k)).hexdigest() for k in range(2)]
    rows = pa.table({"image_id": old, "source_uri": [s.uri for s in sources.values()], "source_sha256": digests})
    collection.write_part(0, rows, [], {})
    collection.finish(plan)
    if index == "as it was":
        names = ("uri", "path", "column", "offset", "length", "row")
        columns = {name: [getattr(source, name) for source in sources.values()] for name in names}
        sink = io.BytesIO()
        pq.write_table(pa.table({"image_id": old, **columns}), sink, write_statistics=["image_id"])
        collection.objects.put("latents/e4e/_sources.parquet", sink.getvalue())
    world.shards["y"] = [("a.png", 2)]
    world.write()
    COMPUTED.clear()
    collection, result = run(job)
    assert (result["rows"], result["failed"], len(COMPUTED)) == (3, 0, 1)
    assert COMPUTED[0].startswith("y/")
    world.shards["x"][1] = ("b.png", 3)
    world.write()
    collection, result = run(job)
    assert (result["rows"], result["changed"]) == (3, 1)
    assert set(collection.read()["image_id"].to_pylist()) == {*old, "y/a" if kind == "tar" else "y/00000000"}
