"""A ``Code`` as table rows: ``w`` in a column, everything else of one image as a safetensors object beside the table."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import torch
from safetensors import SafetensorError
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.codes.parts import map_tensors
from ganinv.errors import ConfigError, StoreError, WeightsRefused
from ganinv.records.record import RecordConfig, decode, encode
from ganinv.records.segment_moves import with_moves
from ganinv.records.style_offsets import with_offsets
from ganinv.store.collection import Collection
from ganinv.store.names import checked_path, quoted_id
from ganinv.store.objects import Objects
from ganinv.store.store import Store
from ganinv.store.tensors import tensor_array, tensor_numpy

_EXTRAS = ("extras_uri", "extras_sha256", "extras_bytes")
HOLDS = "extras_holds"
"""A column of ``latents``: which fields of ``Code`` the extras object has, so that who needs one need not open it to see."""


def code_to_table(
    code: Code, ids: Sequence[str], collection: Collection, record: RecordConfig | None = None
) -> pa.Table:
    """Rows of a code: image_id, w [num_ws, w_dim] float32, extras_uri, extras_sha256, extras_bytes, extras_holds.

    The extras of an image are written immediately, as ``extras/<quoted id>.safetensors`` of the collection, before any part
    refers to them. The ``extras_*`` columns are null for an image without extras.

    Args:
        ids: one image id per sample of the code.
        record: how precisely the extras are stored; float16 by default.

    Raises:
        NotFinite: an extra holds NaN or infinity.
    """
    if len(ids) != len(code):
        raise ValueError(f"a code of {len(code)} images needs as many ids, got {len(ids)}")
    plain = code.detach().to("cpu")
    return records_to_table(plain.w, [encode(plain[i], record) for i in range(len(plain))], ids, collection)


def records_to_table(w: Tensor, extras: Sequence[bytes | None], ids: Sequence[str], collection: Collection) -> pa.Table:
    """:func:`code_to_table` of codes that are encoded already (``ganinv.records.record``). Takes no rows as well.

    Args:
        w: [B, num_ws, w_dim] on the CPU. extras: one object per image, or None. What several images share, such as one tuned
            generator, is written once.
    """
    names = _names(extras, ids)
    written = {
        name: write_extras(data, name, collection)
        for name, data in zip(names, extras, strict=True)
        if name is not None and data is not None
    }
    records = [(None, None, None) if name is None else written[name] for name in names]
    return pa.table(
        {
            "image_id": pa.array(ids, pa.string()),
            "w": tensor_array(w.float().numpy(), dim_names=["layer", "channel"]),
            "extras_uri": pa.array([uri for uri, _, _ in records], pa.string()),
            "extras_sha256": pa.array([sha256 for _, sha256, _ in records], pa.string()),
            "extras_bytes": pa.array([size for _, _, size in records], pa.int64()),
            HOLDS: pa.array([None if data is None else _fields_in(data) for data in extras], pa.list_(pa.string())),
        }
    )


def _names(extras: Sequence[bytes | None], ids: Sequence[str]) -> list[str | None]:
    """Of the objects of images: by their ids; by their content where several have the same, so that none is another's."""
    counted = Counter(data for data in extras if data is not None)
    return [
        None
        if data is None
        else quoted_id(image_id)
        if counted[data] == 1
        else f"shared~{hashlib.sha256(data).hexdigest()[:32]}"  # the ~ of an id is quoted
        for data, image_id in zip(extras, ids, strict=True)
    ]


def write_extras(data: bytes, name: str, collection: Collection) -> tuple[str, str, int]:
    """Put one extras object beside the table: its extras_uri, extras_sha256 and extras_bytes.

    Args:
        name: of the object, without its ending.
    """
    uri = f"{collection.path}/extras/{name}.safetensors"
    collection.objects.put(uri, data)
    return uri, hashlib.sha256(data).hexdigest(), len(data)


def _fields_in(data: bytes) -> list[str]:
    """``["features", "noise"]``: the header of a safetensors file names its tensors."""
    names = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return sorted({name.partition(".")[0] for name in names} - {"__metadata__"})


def table_to_code(table: pa.Table, store: Store, rows: Sequence[int] | None = None) -> Code:
    """The code of some rows (all by default), in their order, float32 on the CPU; of edits, what they added to the
    styles included. A hypernetwork's codes come without its heads: ``ganinv.records.reader.CodeReader`` gives codes to render.

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
        return with_moves(with_offsets(Code(w), table), table)
    records = list(zip(*(table[column].to_pylist() for column in _EXTRAS), strict=True))
    if (
        len(records) > 1 and len(set(records)) == 1
    ):  # edits of one image: its tuned weights are read once, and held once
        shared = map_tensors(_fields(store.objects, *records[0]), lambda t: t.expand(len(w), *t.shape[1:]))
        return with_moves(with_offsets(Code(w, **shared), table), table)
    extras = [{} if uri is None else _fields(store.objects, uri, sha, size) for uri, sha, size in records]
    try:
        code = Code.cat([Code(w[i : i + 1], **fields) for i, fields in enumerate(extras)])
    except ValueError as error:
        raise StoreError(f"these rows cannot become one code ({error}): read them one at a time") from error
    return with_moves(with_offsets(code, table), table)


def read_extras(table: pa.Table, row: int, store: Store) -> bytes | None:
    """The extras object of one row, verified; None if the row has none.

    Raises: as :func:`table_to_code`.
    """
    if "extras_uri" not in table.schema.names or table["extras_uri"][row].as_py() is None:
        return None
    uri, sha256, size = (table[column][row].as_py() for column in _EXTRAS)
    return _checked(store.objects, uri, sha256, size)


def _checked(objects: Objects, uri: str, sha256: str, size: int) -> bytes:
    try:
        data = objects.read(checked_path(uri))
    except ConfigError as error:
        raise WeightsRefused(f"the extras of a row are not opened: {error}") from error
    if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
        raise WeightsRefused(
            f"{objects.where(uri)} is not what its row recorded: expected {size} bytes with sha256 {sha256[:12]}, got "
            f"{len(data)} bytes with {hashlib.sha256(data).hexdigest()[:12]}. It was changed or damaged: invert this image "
            "again"
        )
    return data


def _fields(objects: Objects, uri: str, sha256: str, size: int) -> dict[str, Any]:
    data = _checked(objects, uri, sha256, size)
    try:
        return decode(data)
    except (SafetensorError, ValueError, RuntimeError, IndexError) as error:
        raise WeightsRefused(f"{objects.where(uri)} is not a ganinv extras object: {error}") from error
