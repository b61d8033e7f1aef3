"""Columns of Parquet that hold images in one way or another, and those that only seem to: each hint leads on."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ganinv.data import open_dataset
from ganinv.errors import DataError

from .pictures import encoded, noise

DATA = [encoded(noise(seed=k)) for k in range(3)]


def written(tmp_path: Path, **columns: Any) -> str:
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    return str(tmp_path / "t.parquet")


def words(tmp_path: Path, **columns: Any) -> str:
    with pytest.raises(DataError) as caught:
        open_dataset(written(tmp_path, **columns))
    assert "image_column=" not in str(caught.value)
    return str(caught.value)


TEXT = [base64.b64encode(data).decode() for data in DATA]
FORMS: dict[str, Any] = {
    "bytes": pa.array(DATA, pa.binary()),
    "large": pa.array(DATA, pa.large_binary()),
    "view": pa.array(DATA, pa.binary_view()),
    "dictionary": pa.array(DATA, pa.binary()).dictionary_encode(),
    "struct": pa.array([{"bytes": data, "path": "a.png"} for data in DATA]),
    "other struct": pa.array([{"data": data, "format": "png"} for data in DATA]),
    "base64": pa.array(TEXT),
    "url-safe base64": pa.array([base64.urlsafe_b64encode(data).decode() for data in DATA]),
    "data URI": pa.array([f"data:image/png;base64,{text}" for text in TEXT]),
    "list of bytes": pa.array([list(data) for data in DATA], pa.list_(pa.uint8())),
}


@pytest.mark.parametrize("form", FORMS)
def test_images_in_many_forms(form: str, tmp_path: Path) -> None:
    dataset = open_dataset(written(tmp_path, text=["a", "b", "c"], picture=FORMS[form]))
    assert [dataset.read(image_id) for image_id in dataset.ids] == DATA


def test_one_of_several_columns_of_bytes_is_told_by_what_is_in_it(tmp_path: Path) -> None:
    dataset = open_dataset(written(tmp_path, digest=[b"x" * 32] * 3, face=DATA))
    assert dataset.read(dataset.ids[0]) == DATA[0]


def test_what_a_column_holds_is_said(tmp_path: Path) -> None:
    assert "paths of image files (a/0.jpg): name their folder with --dataset" in words(tmp_path, image_path=["a/0.jpg"])
    assert "holds URLs" in words(tmp_path, image=["https://x.org/0.jpg"])
    assert "lists of images: store one image a row" in words(tmp_path, images=pa.array([[DATA[0]]]))
    structs = pa.array([[{"bytes": DATA[0], "path": None}]])
    assert "lists of images: store one image a row" in words(tmp_path, images=structs)
    assert "holds arrays of pixels" in words(tmp_path, image=pa.array([[[1, 2], [3, 4]]]))
    assert "holds dictionaries" in words(
        tmp_path, image=pa.array([[("bytes", DATA[0])]], pa.map_(pa.string(), pa.binary()))
    )
    assert "with path, none of them bytes" in words(tmp_path, image=pa.array([{"path": "a.png"}]))
    assert "dictionaries or lists written as text" in words(tmp_path, image=['{"bytes": "..."}'])
    assert "base64 of something that is not an image" in words(tmp_path, image=[base64.b64encode(bytes(99)).decode()])
    assert "there are: a, b" in words(tmp_path, a=[1], b=[2])


def test_the_hints_of_ids_lead_on(tmp_path: Path) -> None:
    columns = {"id": ["person7", "person7", "person8"], "file": ["x", "y", "z"], "image": DATA}
    assert "--id-column none" in words(tmp_path, **columns)
    url = written(tmp_path, **columns)
    assert open_dataset(url, id_column="file").ids == ["x", "y", "z"]
    assert open_dataset(url, id_column="none").ids == ["t/00000000", "t/00000001", "t/00000002"]
    assert open_dataset(url, where={"id": "person8"}).ids == ["person8"]
    with pytest.raises(DataError, match="no column 'fle' for --id-column, did you mean 'file'"):
        open_dataset(url, id_column="fle")
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.png").write_bytes(DATA[0])
    with pytest.raises(DataError, match="need a Parquet table"):
        open_dataset(f"{tmp_path}/set", id_column="file")


def test_ids_that_two_files_share_are_told_apart(tmp_path: Path) -> None:
    for part, data in (("train", DATA[:2]), ("val", DATA[1:])):
        (tmp_path / part).mkdir()
        pq.write_table(pa.table({"id": ["p", part], "image": data}), tmp_path / part / "0.parquet")
    dataset = open_dataset(str(tmp_path))
    assert dataset.ids == ["train", "train/0/p", "val", "val/0/p"]


def test_rows_whose_bytes_are_not_there(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": DATA[0], "path": None}, {"bytes": None, "path": "b.png"}, None]
    batch = open_dataset(written(tmp_path, image=pa.array(rows, kind))).load(
        ["t/00000000", "t/00000001", "t/00000002"], 8
    )
    assert len(batch.ids) == 1
    assert [error.code for error in batch.errors] == ["missing", "missing"]
    assert "the row has a path alone (b.png)" in batch.errors[0].message


def test_ids_of_any_kind(tmp_path: Path) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"key": pa.array([b"a\xff", b"b"], pa.binary()), "image": DATA[:2]}), sink)
    (tmp_path / "t.parquet").write_bytes(sink.getvalue())
    assert open_dataset(str(tmp_path), id_column="key", image_column="image").ids == ["a\\xff", "b"]
