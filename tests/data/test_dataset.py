from __future__ import annotations

import hashlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ganinv.data import Dataset, ImageRefused, open_dataset, to_resolution
from ganinv.errors import ConfigError, DataError, DataUnavailable
from ganinv.store import Plan, open_store

from .conftest import Folder, opened
from .pictures import encoded, noise, tar_of

PICTURES = {name: encoded(noise(20, 20, seed)) for seed, name in enumerate("abcdef")}


def parquet_of(columns: dict[str, Any], row_group_size: int = 2) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, row_group_size=row_group_size)
    return buffer.getvalue()


def check(dataset: Dataset, expected: dict[str, str]) -> None:
    """id -> name of the picture it must be."""
    assert dataset.ids == sorted(expected)
    for image_id, name in expected.items():
        assert dataset.read(image_id) == PICTURES[name]
    batch = dataset.load(dataset.ids[::-1], 20)
    assert batch.ids == dataset.ids[::-1]
    assert batch.errors == []
    for row, image_id in enumerate(batch.ids):
        name = expected[image_id]
        assert batch.sha256[row] == hashlib.sha256(PICTURES[name]).hexdigest()
        assert torch.equal(batch.images[row], to_resolution(noise(20, 20, "abcdef".index(name)), 20))


def test_a_folder_with_everything_below_it(folder: Folder) -> None:
    folder.put("x.png", PICTURES["a"])
    folder.put("deep/er/y.PNG", PICTURES["b"])
    folder.put("deep/z z.ü.png", PICTURES["c"])
    for other in ("notes.txt", ".hidden/h.png", "deep/.DS_Store", "labels.csv"):
        folder.put(other, b"no image")
    dataset = opened(folder)
    check(dataset, {"x": "a", "deep/er/y": "b", "deep/z z.ü": "c"})
    check(pickle.loads(pickle.dumps(dataset)), {"x": "a", "deep/er/y": "b", "deep/z z.ü": "c"})
    assert opened(folder, limit=2).ids == ["deep/er/y", "deep/z z.ü"]


def test_a_glob_and_one_file(folder: Folder) -> None:
    for name in "abc":
        folder.put(f"set-{name}/{name}.png", PICTURES[name])
    check(opened(folder, "/set-[ab]/*.png"), {"set-a/a": "a", "set-b/b": "b"})
    check(opened(folder, "/**/c.png"), {"set-c/c": "c"})
    check(opened(folder, "/set-a/a.png"), {"a": "a"})


def test_names_that_differ_in_their_extension_only(folder: Folder) -> None:
    folder.put("x.png", PICTURES["a"])
    folder.put("x.jpg", PICTURES["b"])
    folder.put("y.png", PICTURES["c"])
    check(opened(folder), {"x.jpg": "b", "x.png": "a", "y": "c"})


@pytest.mark.seconds
def test_tar_shards(folder: Folder) -> None:
    folder.put("s0.tar", tar_of({"./p/a.png": PICTURES["a"], "b.png": PICTURES["b"], "b.json": b"{}"}))
    folder.put("s1.tar", tar_of({"b.png": PICTURES["c"], "../../evil.png": PICTURES["d"], "._b.png": b"mac"}))
    expected = {"s0/p/a": "a", "s0/b": "b", "s1/b": "c", "s1/../../evil": "d"}
    check(opened(folder), expected)
    check(opened(folder, "/s*.tar"), expected)
    check(opened(folder, "/s0.tar"), {"s0/p/a": "a", "s0/b": "b"})
    assert opened(folder).sources["s0/p/a"].uri.endswith("s0.tar#./p/a.png")


def test_parquet_with_bytes(folder: Folder) -> None:
    columns = {"id": [3, 1, 2], "png": [PICTURES[n] for n in "abc"], "split": ["test", "train", "test"]}
    folder.put("t.parquet", parquet_of({**columns, "good": [True, False, True], "age": [30.0, 31.0, 32.0]}))
    check(opened(folder), {"3": "a", "1": "b", "2": "c"})
    check(opened(folder, "/t.parquet", where={"split": "test"}), {"3": "a", "2": "c"})
    check(opened(folder, where={"good": "true", "age": "32"}), {"2": "c"})
    with pytest.raises(DataError, match=r"no row of .* has \{'split': 'val'\}: split has test, train"):
        opened(folder, where={"split": "val"})
    with pytest.raises(DataError, match=r"no column 'spilt' to choose rows by, did you mean 'split'\?"):
        opened(folder, where={"spilt": "test"})
    with pytest.raises(DataError, match=r"no image column 'pmg', did you mean 'png'\?"):
        opened(folder, image_column="pmg")


def test_parquet_as_hugging_face_has_it(folder: Folder) -> None:
    for part, names in (("0", "abc"), ("1", "de")):
        rows = [{"bytes": PICTURES[name], "path": f"{name}.png"} for name in names]
        folder.put(f"data/train-{part}.parquet", parquet_of({"image": rows, "label": [0] * len(rows)}))
    dataset = opened(folder)
    ids = ["data/train-0/00000000", "data/train-0/00000001", "data/train-0/00000002"]
    check(dataset, dict(zip([*ids, "data/train-1/00000000", "data/train-1/00000001"], "abcde", strict=True)))
    check(opened(folder, "/data/train-1.parquet"), {"train-1/00000000": "d", "train-1/00000001": "e"})


def test_parquet_that_cannot_be_told_apart(folder: Folder) -> None:
    folder.put("t.parquet", parquet_of({"left": [b"x"], "right": [b"y"]}))
    with pytest.raises(DataError, match=r"name it with --image-column; columns that can hold images: left, right"):
        opened(folder)
    folder.put("t.parquet", parquet_of({"image_id": ["p", "p"], "image": [b"x", b"y"]}))
    with pytest.raises(
        DataError, match=r"more than once, such as 'p': choose rows with --where, or name .* with --id-column"
    ):
        opened(folder)
    folder.put("t.parquet", parquet_of({"image_id": ["p", None], "image": [b"x", b"y"]}))
    with pytest.raises(DataError, match=r"row 1 of .* has no image_id"):
        opened(folder)
    folder.put("t.parquet", parquet_of({"text": ["x"]}))
    with pytest.raises(DataError, match="columns that can hold images: none"):
        opened(folder)


def test_a_collection_of_the_store_is_a_data_set(tmp_path: Path) -> None:
    collection = open_store(str(tmp_path)).edits["smiles"]
    collection.start(Plan.of("edit", {}, {}, ["a", "b"], 1))
    for index, image_id in enumerate("ab"):
        table = pa.table({"image_id": [image_id], "image_png": [PICTURES[image_id]]})
        collection.write_part(index, table, [], {image_id: 1.0})
    check(open_dataset(collection.url), {"a": "a", "b": "b"})


def test_bad_images_are_rows_with_a_reason(folder: Folder) -> None:
    folder.put("a.png", PICTURES["a"])
    folder.put("cut.png", PICTURES["b"][:200])
    folder.put("empty.png", b"")
    folder.put("page.jpg", b"<html></html>")
    folder.put("gone.png", PICTURES["c"])
    dataset = opened(folder)
    Path(f"{folder.url}/gone.png").unlink() if "://" not in folder.url else dataset.place.fs.rm(
        dataset.sources["gone"].path
    )
    batch = dataset.load(dataset.ids, 16)
    assert batch.ids == ["a"]
    assert batch.images.shape == (1, 3, 16, 16)
    codes = {"cut": "truncated", "empty": "empty", "page": "not_an_image", "gone": "missing"}
    assert {error.image_id: error.code for error in batch.errors} == codes
    assert all(error.image_id in error.message for error in batch.errors)
    assert dataset.load(["cut"], 16).images.shape == (0, 3, 16, 16)
    with pytest.raises(ImageRefused, match="gone now"):
        dataset.read("gone")


@pytest.mark.parametrize("nothing", ["", "  "])
def test_an_empty_text_is_not_this_folder(nothing: str) -> None:
    with pytest.raises(ConfigError, match="got an empty text"):
        open_dataset(nothing)


def test_a_row_without_bytes_is_a_row_with_a_reason(folder: Folder) -> None:
    rows = [{"bytes": PICTURES["a"], "path": None}, {"bytes": None, "path": "elsewhere.png"}, None]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    folder.put("t.parquet", parquet_of({"id": ["x", "y", "z"], "image": pa.array(rows, kind)}))
    batch = opened(folder).load(["x", "y", "z"], 16)
    assert batch.ids == ["x"]
    assert [error.code for error in batch.errors] == ["missing", "missing"]


def test_too_large_files_are_not_even_read(tmp_path: Path) -> None:
    with (tmp_path / "big.png").open("wb") as file:
        file.truncate(65 * 2**20)
    batch = open_dataset(str(tmp_path)).load(["big"], 16)
    assert [error.code for error in batch.errors] == ["too_large"]


def test_nothing_there_says_what_was_looked_for(folder: Folder) -> None:
    with pytest.raises(DataError, match="there is nothing at"):
        opened(folder, "/no-such-folder")
    with pytest.raises(DataError, match=r"looked for images .* found no file"):
        opened(folder, "/*.png")
    folder.put("readme.txt", b"hello")
    with pytest.raises(DataError, match=r"looked for images \(\.jpg, .*found 1 files of other kinds"):
        opened(folder)
    folder.put("all.tar.gz", b"x")
    with pytest.raises(DataError, match=r"compressed archives, such as .*all\.tar\.gz"):
        opened(folder)


def test_kinds_are_not_mixed_silently(folder: Folder) -> None:
    folder.put("a.png", PICTURES["a"])
    with pytest.raises(DataError, match="need a Parquet table"):
        opened(folder, where={"split": "test"})
    folder.put("t.parquet", parquet_of({"image": [PICTURES["b"]]}))
    with pytest.raises(DataError, match=r"1 images, 1 Parquet files: say which with a glob"):
        opened(folder)
    check(opened(folder, "/*.parquet"), {"t/00000000": "b"})


@pytest.mark.parametrize("name", ["t.parquet", "t.tar"])
def test_damaged_containers(folder: Folder, name: str) -> None:
    whole = parquet_of({"image": [PICTURES["a"]]}) if name == "t.parquet" else tar_of({"a.png": PICTURES["a"]})
    folder.put(name, whole[:300])
    with pytest.raises(DataError, match=name):
        opened(folder)
    folder.put(name, b"")
    with pytest.raises(DataError, match=name):
        opened(folder)


def test_containers_without_images(folder: Folder) -> None:
    folder.put("t.tar", tar_of({"readme.txt": b"x"}))
    with pytest.raises(DataError, match="the 1 tar files hold no image"):
        opened(folder)
    folder.put("u/t.parquet", parquet_of({"image": pa.array([], pa.binary())}))
    with pytest.raises(DataError, match="the 1 Parquet files have no row"):
        opened(folder, "/u")


def test_unknown_ids_and_limits(folder: Folder) -> None:
    folder.put("portrait.png", PICTURES["a"])
    with pytest.raises(DataError, match=r"no image 'portrat' among the 1 of .*did you mean 'portrait'\?"):
        opened(folder).load(["portrat"], 16)
    with pytest.raises(ConfigError, match="limit must be at least 1"):
        opened(folder, limit=0)
    with pytest.raises(DataError, match="Expected a path or an fsspec URL"):
        open_dataset("nosuch://x")


def test_a_missing_bucket(s3_options: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="there is nothing at"):
        open_dataset("s3://no-such-bucket-here/x", **s3_options)


def test_storage_that_fails_is_not_blamed_on_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(PICTURES["a"])
    dataset = open_dataset(str(tmp_path))

    calls = []

    def fail(*_: object, **__: object) -> bytes:
        calls.append(1)
        raise ConnectionResetError("gone")

    monkeypatch.setattr("ganinv.store.retrying.PAUSES", [0.01, 0.01])
    monkeypatch.setattr(type(dataset.place.fs), "cat_file", fail)
    with pytest.raises(DataUnavailable, match="cannot be reached"):
        dataset.load(["a"], 16)
    assert len(calls) == 3


def test_file_names_that_are_no_text(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(str(tmp_path)) + b"/\xff.png")).write_bytes(PICTURES["a"])
    except OSError:
        pytest.skip("this file system takes text only")
    dataset = open_dataset(str(tmp_path))
    assert dataset.ids == ["\\xff"]
    assert dataset.load(dataset.ids, 16).ids == ["\\xff"]


def test_sources_that_are_forgotten(folder: Folder) -> None:
    folder.put("a.png", PICTURES["a"])
    dataset = opened(folder)
    assert dataset.ids == ["a"]
    dataset.forget()
    assert (dataset.ids, len(dataset)) == ([], 0)
    with pytest.raises(DataError, match="no image 'a' among the 0"):
        dataset.read("a")
