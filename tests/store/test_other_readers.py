"""What others make of the parts of a collection: DuckDB, Polars, pandas, Ray Data, Hugging Face datasets, and older versions'
parts beside today's."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

from ganinv.store import Collection, open_store, tensor_numpy

from .rows import small_plan, write_all


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    """Five images in three parts."""
    made = open_store(str(tmp_path)).latents["open"]
    write_all(made, made.start(small_plan()))
    return made


def parts_of(collection: Collection) -> list[str]:
    return sorted(map(str, Path(collection.url).glob("part-*.parquet")))


def as_an_older_version_wrote_it(part: str) -> None:
    """With Arrow's type of tensors in the file's Arrow schema, and no shape in its header."""
    from ganinv.store import as_tensors

    table = as_tensors(pq.read_table(part))
    header = json.loads(table.schema.metadata[b"ganinv"])
    kept = {key: value for key, value in header.items() if key not in ("shapes", "dims")}
    pq.write_table(table.replace_schema_metadata({b"ganinv": json.dumps(kept).encode()}), part)


def test_duckdb_reads_values_and_shape(collection: Collection) -> None:
    expected, parts = tensor_numpy(collection.read()["w"]), f"{collection.url}/part-*.parquet"
    rows = duckdb.sql(f"select image_id, w from '{parts}' order by image_id").fetchall()
    asked = f"select decode(value)->>'$.shapes.w' from parquet_kv_metadata('{parts}') where decode(key) = 'ganinv'"
    shape = json.loads(duckdb.sql(asked).fetchall()[0][0])
    assert shape == [*expected.shape[1:]]
    np.testing.assert_array_equal(np.array([w for _, w in rows]).reshape(-1, *shape), expected)


def test_polars_reads_values_and_shape(collection: Collection) -> None:
    expected = tensor_numpy(collection.read()["w"])
    frame = pl.read_parquet(f"{collection.url}/part-*.parquet").sort("image_id")
    shape = json.loads(pl.read_parquet_metadata(parts_of(collection)[0])["ganinv"])["shapes"]["w"]
    assert frame["image_id"].to_list() == list("abcde")
    np.testing.assert_array_equal(frame["w"].to_numpy().reshape(-1, *shape), expected)


def test_pandas_reads_values_and_shape(collection: Collection) -> None:
    expected, part = tensor_numpy(collection.read()["w"]), parts_of(collection)[0]
    shape = json.loads(pq.read_schema(part).metadata[b"ganinv"])["shapes"]["w"]
    frame = pd.read_parquet(part)
    np.testing.assert_array_equal(np.stack(frame["w"]).reshape(-1, *shape), expected[: len(frame)])


def test_ray_data_reads_values_and_shape(collection: Collection, local_ray: None) -> None:
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    expected = tensor_numpy(collection.read()["w"])
    parts = parts_of(collection)
    shape = json.loads(pq.read_schema(parts[0]).metadata[b"ganinv"])["shapes"]["w"]
    rows: Any = ray.data.read_parquet(parts)
    values = {row["image_id"]: np.asarray(row["w"]).reshape(shape) for row in rows.take_all()}
    np.testing.assert_array_equal(np.stack([values[i] for i in "abcde"]), expected)


@pytest.mark.seconds
def test_hugging_face_datasets_read_values_and_shape(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="the extra `huggingface` is not installed")
    expected = tensor_numpy(collection.read()["w"])
    shape = json.loads(pq.read_schema(parts_of(collection)[0]).metadata[b"ganinv"])["shapes"]["w"]
    rows = datasets.load_dataset(
        "parquet", data_files=parts_of(collection), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert rows.features["w"].length == np.prod(shape)
    assert rows["image_id"][:] == list("abcde")
    np.testing.assert_array_equal(np.asarray(rows.with_format("numpy")[:]["w"]).reshape(-1, *shape), expected)


def test_parts_of_older_versions_are_read_beside_todays(collection: Collection) -> None:
    expected = collection.read()
    as_an_older_version_wrote_it(parts_of(collection)[1])
    found = collection.read()
    assert found.schema.types == expected.schema.types
    np.testing.assert_array_equal(tensor_numpy(found["w"]), tensor_numpy(expected["w"]))
    some = collection.read(["image_id", "w"], ["c", "a"])
    np.testing.assert_array_equal(tensor_numpy(some["w"]), tensor_numpy(expected["w"])[[0, 2]])
    together = duckdb.sql(f"select w from '{collection.url}/part-*.parquet' order by image_id").fetchall()
    np.testing.assert_array_equal(np.array(together).reshape(5, -1), tensor_numpy(expected["w"]).reshape(5, -1))


def test_values_lie_in_the_file_as_they_did(collection: Collection) -> None:
    part = parts_of(collection)[0]
    before = pq.ParquetFile(part).metadata.row_group(0)
    table = pq.read_table(part)
    as_an_older_version_wrote_it(part)
    after = pq.ParquetFile(io.BytesIO(Path(part).read_bytes()))
    names = [before.column(k).path_in_schema for k in range(before.num_columns)]
    assert names == [after.metadata.row_group(0).column(k).path_in_schema for k in range(before.num_columns)]
    assert after.read()["w"].combine_chunks().storage.equals(table["w"].combine_chunks())
