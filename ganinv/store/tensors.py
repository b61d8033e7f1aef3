"""Tensors as Parquet columns, and the one way Parquet is written here, and read where a whole file is.

In memory a column of tensors has Arrow's type for it, ``fixed_shape_tensor``. In a file it is a plain list of fixed size, and its
shape is in the header, since Hugging Face ``datasets`` refuses every file that has a column of that type. The bytes of the
values are the same in both forms, and in parts of older versions, which have the type in their Arrow schema.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ganinv.errors import StoreError

ROW_GROUP = 256


def tensor_array(values: np.ndarray, dim_names: list[str] | None = None) -> pa.ExtensionArray:
    """[N, ...] as a column of N tensors of one shape (canonical Arrow type ``fixed_shape_tensor``), same dtype.

    Args:
        values: [N, d1, ...] with at least one dimension beside N.
        dim_names: names of d1, ..., such as ``["layer", "channel"]``.
    """
    if values.ndim < 2:
        raise ValueError(f"a tensor column needs an array [N, ...], got shape {values.shape}")
    element = pa.from_numpy_dtype(values.dtype)
    shape = list(values.shape[1:])
    kind = pa.fixed_shape_tensor(element, shape, dim_names=dim_names)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1), type=element)
    return pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(flat, int(np.prod(shape))))


def tensor_numpy(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """A tensor column as a writable [N, ...]: the inverse of :func:`tensor_array`. Always a copy."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    if not isinstance(column.type, pa.FixedShapeTensorType):
        raise ValueError(f"expected a fixed_shape_tensor column, got {column.type}")
    if column.null_count:
        raise ValueError(f"a tensor column with {column.null_count} missing values cannot become one array")
    shape = (-1, *column.type.shape)
    empty = np.empty((0, *column.type.shape), dtype=column.type.value_type.to_pandas_dtype())
    return np.concatenate(
        [empty, *(chunk.storage.flatten().to_numpy(zero_copy_only=False).reshape(shape) for chunk in chunks)]
    )


def parquet_bytes(table: pa.Table, header: Mapping[str, Any]) -> bytes:
    """The table as Parquet: equal tables and headers give equal bytes.

    Args:
        header: JSON-able, becomes the schema metadata ``ganinv``, with the ``shapes`` of the tensor columns and the names of
            their dimensions (``dims``).
    """
    split = {
        f"{name}.list.element": "BYTE_STREAM_SPLIT"  # float32 only: DuckDB cannot read it for float16
        for name, kind in zip(table.schema.names, table.schema.types, strict=True)
        if isinstance(kind, pa.FixedShapeTensorType) and kind.value_type == pa.float32()
    }
    plain, form = _as_lists(table)
    metadata = {b"ganinv": json.dumps({**form, **header}, sort_keys=True).encode()}
    sink = io.BytesIO()
    pq.write_table(
        plain.replace_schema_metadata(metadata),
        sink,
        compression="zstd",
        compression_level=1,
        use_dictionary=False,
        column_encoding=split or None,
        write_statistics=["image_id"] if "image_id" in table.schema.names else False,
        write_page_checksum=True,
        row_group_size=ROW_GROUP,
    )
    return sink.getvalue()


def parquet_table(content: bytes | IO[bytes], columns: list[str] | None = None) -> pa.Table:
    """A whole file that was read or opened by Python, or some columns of it.

    Whatever Python opened is read without Arrow's threads, here and everywhere else: one of them may still hold a last buffer
    of Python's when the table is there, and a process that ends at that moment is aborted, although all it had to do is done
    (seen with pyarrow 26 and Python 3.11, in ``pyarrow.parquet.read_table`` and in ``ParquetFile.read`` with threads).
    """
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    return pq.ParquetFile(file, pre_buffer=False).read(columns=columns, use_threads=False)


def arrow_file(content: bytes) -> pa.BufferReader:
    """A copy in Arrow's own memory, for ``pyarrow.csv``, which reads ahead in a thread."""
    copy = pa.BufferOutputStream()
    copy.write(content)
    return pa.BufferReader(copy.getvalue())


def as_tensors(table: pa.Table) -> pa.Table:
    """A table as a Parquet reader gives it, with the columns as tensors whose shapes its header tells. Nothing is copied.

    Raises:
        StoreError: the header has a shape that its column does not have.
    """
    header = read_header(table.schema)
    for name, shape in header.get("shapes", {}).items():
        place = table.schema.get_field_index(name)
        if place < 0 or not pa.types.is_fixed_size_list(table.schema.field(place).type):
            continue  # a column that was not read; or a list of one row's own size, as directions have them
        stored = table.schema.field(place).type
        if stored.list_size != math.prod(shape):
            raise StoreError(f"column {name!r} has {stored.list_size} values a row, and its header the shape {shape}")
        kind = pa.fixed_shape_tensor(stored.value_type, shape, dim_names=header.get("dims", {}).get(name))
        chunks = [pa.ExtensionArray.from_storage(kind, chunk) for chunk in table.column(place).chunks]
        table = table.set_column(place, name, pa.chunked_array(chunks, kind))
    return table


def _as_lists(table: pa.Table) -> tuple[pa.Table, dict[str, Any]]:
    """The table with plain lists in place of tensors, and what a header says of them. Nothing is copied."""
    shapes: dict[str, list[int]] = {}
    dims: dict[str, list[str]] = {}
    for place, (name, kind) in enumerate(zip(table.schema.names, table.schema.types, strict=True)):
        if isinstance(kind, pa.FixedShapeTensorType):
            chunks = [chunk.storage for chunk in table.column(place).chunks]
            table = table.set_column(place, name, pa.chunked_array(chunks, kind.storage_type))
            shapes[name] = list(kind.shape)
            if kind.dim_names:
                dims[name] = list(kind.dim_names)
    return table, {**({"shapes": shapes} if shapes else {}), **({"dims": dims} if dims else {})}


def read_header(schema: pa.Schema) -> dict[str, Any]:
    """The provenance a Parquet file of the store carries; empty when it has none."""
    header: dict[str, Any] = json.loads((schema.metadata or {}).get(b"ganinv", b"{}"))
    return header
