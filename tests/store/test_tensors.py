from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ganinv.errors import StoreError
from ganinv.store import as_tensors, open_store, tensor_array, tensor_numpy
from ganinv.store.tensors import parquet_bytes, read_header

from .rows import small_plan, write_all


@pytest.mark.parametrize("shape", [(3, 8), (5, 4, 8), (2, 3, 4, 5), (0, 4, 8)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64])
def test_tensors_survive_a_column(shape: tuple[int, ...], dtype: type) -> None:
    values: np.ndarray = np.random.default_rng(0).normal(size=shape).astype(dtype)
    data = parquet_bytes(pa.table({"w": tensor_array(values)}), {"made": "here"})
    table = as_tensors(pq.read_table(io.BytesIO(data)))
    back = tensor_numpy(table["w"])
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, values)
    back[...] = 0  # a copy of one's own
    assert read_header(table.schema) == {"made": "here", "shapes": {"w": [*shape[1:]]}}


def test_a_shape_that_its_column_does_not_have_is_refused() -> None:
    data = parquet_bytes(pa.table({"w": tensor_array(np.zeros((2, 3, 4)))}), {"shapes": {"w": [5, 5]}})
    with pytest.raises(StoreError, match=r"12 values a row, and its header the shape \[5, 5\]"):
        as_tensors(pq.read_table(io.BytesIO(data)))


def test_slices_and_chunks_of_a_column() -> None:
    values = np.arange(24, dtype=np.float32).reshape(6, 4)
    column = pa.chunked_array([tensor_array(values[:4])[1:3], tensor_array(values[4:])])
    np.testing.assert_array_equal(tensor_numpy(column), values[[1, 2, 4, 5]])


def test_a_single_vector_is_not_a_column() -> None:
    with pytest.raises(ValueError, match=r"needs an array \[N, \.\.\.\]"):
        tensor_array(np.zeros(3))
    with pytest.raises(ValueError, match="expected a fixed_shape_tensor"):
        tensor_numpy(pa.array([1.0]))


def test_how_parts_are_written(tmp_path: Path) -> None:
    collection = open_store(str(tmp_path)).latents["settings"]
    write_all(collection, collection.start(small_plan()))
    path = f"{collection.url}/part-00000.parquet"
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    w = columns["w.list.element"]
    assert w.compression == "ZSTD"
    assert "BYTE_STREAM_SPLIT" in w.encodings
    assert not w.has_dictionary_page
    assert w.statistics is None or not w.statistics.has_min_max
    assert columns["image_id"].statistics.min == "a"
    header = read_header(pq.read_schema(path))
    assert header["stage"] == "invert"
    assert header["generator_fingerprint"] == "f00"


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    collection = open_store(str(tmp_path)).latents["flipped"]
    write_all(collection, collection.start(small_plan()))
    path = Path(collection.url) / "part-00000.parquet"
    group = pq.ParquetFile(path).metadata.row_group(0)
    data = bytearray(path.read_bytes())
    data[group.column(1).data_page_offset + 40] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"part-00000\.parquet is damaged"):
        collection.read()


def test_row_groups_without_the_ids_are_left_out(tmp_path: Path) -> None:
    from ganinv.store import Plan

    ids = [f"{i:05d}" for i in range(1000)]
    collection = open_store(str(tmp_path)).samples["many"]
    collection.start(Plan.of("sample", {}, {}, ids, 1000))
    values = np.arange(1000, dtype=np.float32)[:, None]
    collection.write_part(0, pa.table({"image_id": ids, "w": tensor_array(values)}), [], {})
    assert pq.ParquetFile(f"{collection.url}/part-00000.parquet").num_row_groups == 4
    found = collection.read(ids=["00999", "00000", "00255", "00256"])
    assert tensor_numpy(found["w"])[:, 0].tolist() == [0, 255, 256, 999]
