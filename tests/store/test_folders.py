"""Folders that are written whole and once, on every kind of file system."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from ganinv.errors import RunConflict, StoreError
from ganinv.store.folders import CLAIM, keep_folder
from ganinv.store.objects import Objects

FILES = {"a.bin": b"1" * 1000, "b.bin": b"2", "config.json": b"{}"}
RECORD = {"fingerprint": "f" * 64, "config": {"channels": [4, 4]}, "origin": {"uri": "somewhere"}}


class Killed(Exception):
    pass


def keep(objects: Objects, files: dict[str, bytes] = FILES, **record: Any) -> list[str]:
    return keep_folder(objects, "generators/g", files, RECORD | record, last="config.json")


@pytest.fixture
def objects(place: tuple[str, dict[str, str]]) -> Objects:
    return Objects(*place)


def test_a_second_run_writes_nothing(objects: Objects) -> None:
    assert keep(objects) == ["a.bin", "b.bin", "config.json"]
    assert keep(objects) == []
    assert objects.names("generators/g") == ["a.bin", "b.bin", "config.json", CLAIM]
    assert objects.read("generators/g/a.bin") == FILES["a.bin"]


def test_the_same_content_may_come_from_elsewhere(objects: Objects) -> None:
    keep(objects)
    assert keep(objects, FILES | {"config.json": b"{ }"}, origin={"uri": "elsewhere"}) == []
    assert json.loads(objects.read(f"generators/g/{CLAIM}"))["origin"] == {"uri": "somewhere"}


@pytest.mark.parametrize("files", [FILES | {"a.bin": b"3"}, {k: v for k, v in FILES.items() if k != "b.bin"}])
def test_other_content_is_refused(objects: Objects, files: dict[str, bytes]) -> None:
    keep(objects)
    with pytest.raises(
        RunConflict, match=r"other weights already \(ffffffffffff from somewhere\); these are eeeeeeeeeeee"
    ):
        keep(objects, files, fingerprint="e" * 64)
    assert objects.read("generators/g/a.bin") == FILES["a.bin"]


def test_another_record_is_refused(objects: Objects) -> None:
    keep(objects)
    with pytest.raises(RunConflict, match="differ in config"):
        keep(objects, config={"channels": [8, 4]})


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_killed_run_is_resumed(objects: Objects, monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    done: list[str] = []
    put = Objects.put

    def dying(self: Objects, path: str, data: bytes) -> None:
        if len(done) == writes:
            raise Killed
        done.append(path)
        put(self, path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Objects, "put", dying)
        with pytest.raises(Killed):
            keep(objects)
    assert "config.json" not in objects.names("generators/g")
    assert keep(objects) == ["a.bin", "b.bin", "config.json"][writes:]
    assert keep(objects) == []


def full(self: Objects, path: str, data: bytes) -> None:
    raise StoreError(f"cannot write {path}: no space left")


def test_an_import_that_can_write_nothing_leaves_the_name_free(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Objects, "put", full)
        with pytest.raises(StoreError, match=r"cannot write generators/g/a.bin"):
            keep(objects)
    assert objects.names("generators") == []
    assert keep(objects, FILES | {"a.bin": b"3"}) == ["a.bin", "b.bin", "config.json"]


def test_the_claim_of_another_import_stays(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    def dying(self: Objects, path: str, data: bytes) -> None:
        raise Killed

    for put, ends in ((dying, Killed), (full, StoreError)):
        with monkeypatch.context() as patch:
            patch.setattr(Objects, "put", put)
            with pytest.raises(ends):
                keep(objects)
        assert objects.names("generators/g") == [CLAIM]


def test_a_folder_of_something_else_is_left_alone(objects: Objects) -> None:
    objects.put("generators/g/config.json", b"mine")
    with pytest.raises(RunConflict, match=r"holds something that was not imported \(config.json\)"):
        keep(objects)
    assert objects.names("generators/g") == ["config.json"]


def test_a_damaged_claim(objects: Objects) -> None:
    objects.put(f"generators/g/{CLAIM}", b"{")
    with pytest.raises(StoreError, match="is not the record of an import: remove that folder"):
        keep(objects)


def no_room(file: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_no_empty_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store" / "latents").mkdir(parents=True)
    objects = Objects(str(tmp_path / "store"))
    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(StoreError, match=r"No space left on device: '.*/generators/g/import\.json'"):
        keep(objects)
    assert [path.name for path in tmp_path.rglob("*")] == ["store", "latents"]
    monkeypatch.undo()
    keep(objects)
    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(StoreError, match="No space left on device"):
        objects.put("generators/h/config.json", b"{}")
    assert objects.names("generators") == ["g"]


def test_what_is_there_is_not_created_again_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = Objects(str(tmp_path))
    objects.put("latents/a/plan.json", b"{}")
    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(FileExistsError):
        objects.create("latents/a/plan.json", b"{}")
