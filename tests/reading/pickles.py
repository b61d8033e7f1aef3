"""Pickles for tests of the reader, written opcode by opcode or by torch and pickle themselves."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch


def zipped(data: Any) -> bytes:
    """What ``torch.save`` writes today."""
    buffer = io.BytesIO()
    torch.save(data, buffer)
    return buffer.getvalue()


def streamed(data: Any) -> bytes:
    """What ``torch.save`` wrote before 1.6."""
    buffer = io.BytesIO()
    torch.save(data, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def repacked(data: bytes, change: dict[str, bytes | None], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive written again, with entries (named without their folder) replaced, added, or left out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        root = old.namelist()[0].split("/")[0]
        entries: dict[str, bytes | None] = {n.removeprefix(f"{root}/"): old.read(n) for n in old.namelist()} | change
        for name, content in entries.items():
            if content is not None:
                new.writestr(f"{root}/{name}", content)
    return buffer.getvalue()


def call(module: str, name: str, *args: Any) -> bytes:
    """A pickle that calls ``module.name(*args)`` when an ordinary unpickler loads it."""
    body = b"".join(pickle.dumps(arg, 2)[2:-1] for arg in args)
    return b"\x80\x02" + f"c{module}\n{name}\n".encode() + b"(" + body + b"tR."


def on_gpu(data: bytes) -> bytes:
    """A ``torch.save`` archive as if its tensors had lain on a GPU."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        root = archive.namelist()[0].split("/")[0]
        content = archive.read(f"{root}/data.pkl")
    changed = content.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:1")
    assert changed != content
    return repacked(data, {"data.pkl": changed})


def written(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)
