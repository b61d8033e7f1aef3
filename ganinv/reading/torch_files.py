"""The two containers of ``torch.save``: the zip archive (since PyTorch 1.6) and the stream of pickles before it."""

from __future__ import annotations

from typing import Any

import torch

from ganinv.errors import WeightsRefused
from ganinv.reading.archive import Archive
from ganinv.reading.limits import MAX_NESTED_PICKLES, Budget
from ganinv.reading.machine import Machine
from ganinv.reading.rebuild import Rebuild
from ganinv.reading.source import Cursor, MemorySource, Span
from ganinv.reading.stub import brief
from ganinv.reading.tensors import Storage

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


def new_rebuild(budget: Budget) -> Rebuild:
    """The names for one file. Torch streams inside its pickles are opened with the same names and the same budget."""

    def nested(data: bytes | Span) -> Any:
        span = data if isinstance(data, Span) else Span(MemorySource(data), 0, len(data))
        budget.depth += 1
        if budget.depth > MAX_NESTED_PICKLES:
            raise WeightsRefused(f"pickles inside pickles, more than {MAX_NESTED_PICKLES} deep")
        cursor = Cursor(span)
        magic = Machine(cursor, rebuild).load()
        if magic != LEGACY_MAGIC:
            if span.sub(0, 2).read() == b"PK":
                out = load_zip(span, budget, rebuild)
            else:
                raise WeightsRefused("damaged: a tensor inside the pickle that torch.save did not write")
        else:
            out = load_legacy(cursor, budget, rebuild)
        budget.depth -= 1
        return out

    rebuild = Rebuild(budget, nested)
    return rebuild


def load_zip(span: Span, budget: Budget, rebuild: Rebuild) -> Any:
    """The object in a zip archive of ``torch.save``."""
    archive = Archive(span)
    root = archive.root_of("data.pkl")
    if f"{root}constants.pkl" in archive or f"{root}code/" in archive:
        raise WeightsRefused("a TorchScript archive (torch.jit.save), which is a program; save the state dict instead")
    swapped = f"{root}byteorder" in archive and archive.read(f"{root}byteorder", 16).strip() == b"big"
    storages: dict[str, Storage] = {}

    def persistent(pid: Any) -> Any:
        kind, dtype, key, _location, count = pid[:5]
        if kind != "storage" or not isinstance(key, str):
            raise WeightsRefused("damaged: a reference to something that is not a tensor storage")
        if key not in storages:
            storage = _storage(dtype, count)
            budget.store(storage.nbytes)
            storage.place(archive.span(f"{root}data/{key}", budget), swapped)
            storages[key] = storage
        return storages[key]

    data = archive.span(f"{root}data.pkl", budget)
    return Machine(Cursor(data), rebuild, persistent).load()


def load_legacy(cursor: Cursor, budget: Budget, rebuild: Rebuild) -> Any:
    """The object in a stream of ``torch.save`` before 1.6; the magic number has already been read.

    The stream has four pickles: protocol version, system information, the object, and the keys of the storages. Then come the
    length and bytes of each storage.
    """
    version = Machine(cursor, rebuild).load()
    if version != LEGACY_PROTOCOL:
        raise WeightsRefused(f"a torch file of protocol {brief(version)}, expected {LEGACY_PROTOCOL}")
    system = Machine(cursor, rebuild).load()
    swapped = isinstance(system, dict) and system.get("little_endian") is False
    storages: dict[str, Storage] = {}

    def persistent(pid: Any) -> Any:
        kind = pid[0]
        if kind == "module":  # (kind, class, source file, source): the class alone is of interest
            return pid[1]
        if kind != "storage" or not isinstance(pid[2], str):
            raise WeightsRefused("damaged: a reference to something that is not a tensor storage")
        if pid[2] not in storages:
            storages[pid[2]] = _storage(pid[1], pid[4])
            budget.store(storages[pid[2]].nbytes)
        view = pid[5] if len(pid) > 5 else None
        if view is not None:
            raise WeightsRefused(
                "its tensors are views of storages in the form of PyTorch 0.3; save it again with a newer one"
            )
        return storages[pid[2]]

    out = Machine(cursor, rebuild, persistent).load()
    keys = Machine(cursor, rebuild).load()
    if not isinstance(keys, list):
        raise WeightsRefused("damaged: what should be the list of tensor storages is something else")
    for key in keys:
        count = int.from_bytes(cursor.read(8), "big" if swapped else "little", signed=True)
        known = storages.get(key) if isinstance(key, str) else None
        if known is None or known.count != count:
            raise WeightsRefused("damaged: the tensor data do not belong to the tensors")
        known.place(cursor.skip(known.nbytes), swapped)
    return out


def _storage(dtype: Any, count: Any) -> Storage:
    if not isinstance(dtype, torch.dtype):
        raise WeightsRefused(f"a tensor storage of unknown type {getattr(dtype, 'path', brief(dtype))}")
    return Storage(dtype, count)
