"""A ``Code`` as table rows: ``w`` in a column, all else of one image as one safetensors object beside the table."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import pyarrow as pa
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ganinv.code import Code
from ganinv.errors import ConfigError, StoreError, WeightsRefused
from ganinv.store.collection import Collection
from ganinv.store.extras import flatten, unflatten
from ganinv.store.names import checked_path, quoted_id
from ganinv.store.objects import Objects
from ganinv.store.store import Store
from ganinv.store.tensors import tensor_array, tensor_numpy

_DTYPES = {"float16": torch.float16, "float32": torch.float32}
_METADATA = {"ganinv": "extras 1"}  # one key only: safetensors does not order them


def code_to_table(
    code: Code, ids: Sequence[str], collection: Collection, dtype: Literal["float16", "float32"] = "float16"
) -> pa.Table:
    """Rows of a code: image_id, w [num_ws, w_dim] float32, extras_uri, extras_sha256, extras_bytes.

    What an image has beside ``w`` is written at once as ``extras/<quoted id>.safetensors`` of the collection, before
    any part could mention it. The ``extras_*`` columns are null for an image without.

    Args:
        ids: one image id per sample of the code.
        dtype: of the extras. float16 halves them at a relative error of 5e-4; a tensor that would overflow, and a
            hypernetwork's codes, stay float32.
    """
    if len(ids) != len(code):
        raise ValueError(f"a code of {len(code)} images needs as many ids, got {len(ids)}")
    plain = code.detach().to("cpu")
    records = [_write_extras(plain[i], image_id, collection, _DTYPES[dtype]) for i, image_id in enumerate(ids)]
    return pa.table(
        {
            "image_id": pa.array(ids, pa.string()),
            "w": tensor_array(plain.w.float().numpy(), dim_names=["layer", "channel"]),
            "extras_uri": pa.array([uri for uri, _, _ in records], pa.string()),
            "extras_sha256": pa.array([sha256 for _, sha256, _ in records], pa.string()),
            "extras_bytes": pa.array([size for _, _, size in records], pa.int64()),
        }
    )


def table_to_code(table: pa.Table, store: Store, rows: Sequence[int] | None = None) -> Code:
    """The code of some rows (all by default), in their order, float32 on the CPU.

    Raises:
        WeightsRefused: an extras object is not the one its row recorded (size or sha256), or no extras at all.
        StoreError: an extras object is missing, or the rows cannot be one code.
    """
    if rows is not None:
        table = table.take(pa.array(rows, pa.int64()))
    if not table.num_rows:
        raise StoreError("a code needs at least one row: the table is empty")
    w = torch.from_numpy(tensor_numpy(table["w"])).float()
    if "extras_uri" not in table.schema.names or table["extras_uri"].null_count == table.num_rows:
        return Code(w)
    columns = ("extras_uri", "extras_sha256", "extras_bytes")
    records = zip(*(table[column].to_pylist() for column in columns), strict=True)
    extras = [{} if uri is None else _read_extras(store.objects, uri, sha, size) for uri, sha, size in records]
    try:
        return Code.cat([Code(w[i : i + 1], **fields) for i, fields in enumerate(extras)])
    except ValueError as error:
        raise StoreError(f"these rows cannot become one code ({error}): read them one at a time") from error


def _write_extras(code: Code, image_id: str, collection: Collection, dtype: torch.dtype) -> tuple[Any, Any, Any]:
    tensors = {name: _narrow(value, _precision(name, dtype)) for name, value in flatten(code).items()}
    if not tensors:
        return None, None, None
    data = save(tensors, _METADATA)
    uri = f"{collection.path}/extras/{quoted_id(image_id)}.safetensors"
    collection.objects.put(uri, data)
    return uri, hashlib.sha256(data).hexdigest(), len(data)


def _read_extras(objects: Objects, uri: str, sha256: str, size: int) -> dict[str, Any]:
    where = objects.where(uri)
    try:
        data = objects.read(checked_path(uri))
    except ConfigError as error:
        raise WeightsRefused(f"the extras of a row are not opened: {error}") from error
    if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
        raise WeightsRefused(
            f"{where} is not what its row recorded: expected {size} bytes with sha256 {sha256[:12]}, got {len(data)} "
            f"bytes with {hashlib.sha256(data).hexdigest()[:12]}. It was changed or damaged: invert this image again"
        )
    try:
        return unflatten({name: tensor.float() for name, tensor in load(data).items()})
    except (SafetensorError, ValueError, RuntimeError, IndexError) as error:
        raise WeightsRefused(f"{where} is not a ganinv extras object: {error}") from error


def _precision(name: str, dtype: torch.dtype) -> torch.dtype:
    """A hypernetwork's code is small and its rounding would be multiplied: it stays float32."""
    return torch.float32 if name.endswith((".code", ".passes")) else dtype


def _narrow(value: Tensor, dtype: torch.dtype) -> Tensor:
    narrow = value.to(dtype)
    if torch.isfinite(value).all() and not torch.isfinite(narrow).all():
        narrow = value.float()
    return narrow.contiguous().clone()  # safetensors refuses tensors that share memory
