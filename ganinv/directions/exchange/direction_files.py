"""What is in a direction file, without running any of it: ``.npy`` and ``.npz``, pickled ones included, and every file
that the reader of weights takes (``torch.save``, pickles, safetensors)."""

from __future__ import annotations

import hashlib
import io
import math
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import fsspec
import numpy as np

from ganinv.errors import WeightsRefused
from ganinv.reading.checkpoint import load_tensors, read_checkpoint
from ganinv.reading.fetch import refusing
from ganinv.reading.limits import Budget
from ganinv.reading.machine import DAMAGE, Machine
from ganinv.reading.rebuild import Rebuild
from ganinv.reading.recognise import recognise
from ganinv.reading.source import Cursor, MemorySource, Span
from ganinv.reading.tensors import NumpyType, StoredArray

MAX_BYTES = 512 * 2**20
"""Size of a file, and of what a ``.npz`` unpacks to. A basis of 512 activations of 64x64x512 is out of scope."""

_NPY = b"\x93NUMPY"
_ZIP = b"PK\x03\x04"
_BROKEN = (*DAMAGE, zipfile.BadZipFile, zlib.error, EOFError, SyntaxError, tokenize.TokenError, NotImplementedError)


@dataclass(frozen=True)
class DirectionFile:
    """A file that was read.

    Args:
        name: its name without folders. container: ``npy``, ``npz``, or that of the weight file.
        tree: dicts, lists, tuples, numbers and texts with NumPy arrays and CPU tensors as leaves.
    """

    name: str
    sha256: str
    container: str
    tree: Any

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[0] or self.name


def read_direction_file(uri: str, *, sha256: str | None = None, most: int | None = None) -> DirectionFile:
    """Read a file by its content; its name says nothing.

    Args:
        uri: local path or any fsspec URL.
        sha256: refuse the file if its hash is another.
        most: bytes that it may have, and what a ``.npz`` may unpack to; ``MAX_BYTES`` by default.

    Raises:
        WeightsRefused: there is no such file, it is damaged or malicious, of another kind, or has the wrong hash.
    """
    most = MAX_BYTES if most is None else most
    data = _bytes(uri, most)
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise WeightsRefused(f"{uri}: its sha256 is {found}, expected {sha256}: another file, or a damaged one")
    name = PurePosixPath(uri.replace("\\", "/")).name
    try:
        if data.startswith(_NPY):
            return DirectionFile(name, found, "npy", _npy(data))
        if (entries := _npz(data, most)) is not None:
            return DirectionFile(name, found, "npz", entries)
        container = recognise(Span(MemorySource(data), 0, len(data)))
    except WeightsRefused as error:
        raise WeightsRefused(f"{uri}: {error}") from error
    except _BROKEN as error:
        raise WeightsRefused(f"{uri}: damaged: it cannot be read ({type(error).__name__}: {error})") from error
    return DirectionFile(name, found, container, read_checkpoint(uri, sha256=found))


def _bytes(uri: str, most: int) -> bytes:
    """All of a file that is small enough to hold directions."""
    with refusing(uri):
        fs, path = fsspec.url_to_fs(uri)
        size = fs.info(path)["size"]
        if size is not None and size > most:
            raise WeightsRefused(
                f"{uri} has {size} bytes: too large for a file of directions or latents (at most {most})"
            )
        return bytes(fs.cat_file(path))


def _npz(data: bytes, most: int) -> dict[str, Any] | None:
    """Entries of a ``.npz``; None for anything else."""
    if not data.startswith(_ZIP):
        return None
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except zipfile.BadZipFile:  # the reader of weights says what is wrong with it
        return None
    with archive:
        infos = archive.infolist()
        if not infos or not all(info.filename.endswith(".npy") for info in infos):
            return None
        total = sum(info.file_size for info in infos)
        if total > most:
            raise WeightsRefused(
                f"its arrays unpack to {total} bytes, more than {most}: not a file of directions or latents"
            )
        return {info.filename.removesuffix(".npy"): _npy(archive.read(info)) for info in infos}


def _npy(data: bytes) -> Any:
    """The array of a ``.npy``; of one that was saved with pickled objects, those objects."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise WeightsRefused(f"a numpy array in format {version[0]}.{version[1]}; 1.0 and 2.0 are read")
    shape, fortran, dtype = readers[version](file, max_header_size=10_000)
    rest = data[file.tell() :]
    if dtype.hasobject:
        return _pickled(rest)
    if dtype.kind not in "biufSU":
        raise WeightsRefused(f"a numpy array of type {dtype}; expected plain numbers")
    expected = math.prod(shape) * dtype.itemsize
    if len(rest) != expected:
        raise WeightsRefused(
            f"incomplete or damaged: an array of shape {shape} and type {dtype} takes {expected} bytes, it has {len(rest)}"
        )
    array = np.frombuffer(rest, dtype).reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="))


def _pickled(data: bytes) -> Any:
    """What an array of objects holds: its one object, or the list of them. Nothing in it runs."""
    tree = Machine(
        Cursor(Span(MemorySource(data), 0, len(data))), _ObjectRebuild(Budget(len(data)), _no_streams)
    ).load()
    if not isinstance(tree, _ObjectArray) or tree.objects is None:
        raise WeightsRefused("damaged: what should be an array of objects is something else")
    values = [load_tensors(value) for value in tree.objects]
    return values[0] if len(values) == 1 else values


class _ObjectType(NumpyType):
    def __init__(self) -> None:
        super().__init__("u1")


class _ObjectArray(StoredArray):
    """A pickled array, also one of objects: then ``objects`` are its elements."""

    objects: list[Any] | None = None

    def set_state(self, state: Any) -> None:
        shape, dtype, _, data = state[-4:]
        if not isinstance(dtype, _ObjectType):
            super().set_state(state)
            return
        if not isinstance(data, list) or len(data) != math.prod(shape):
            raise WeightsRefused(f"damaged: an array of objects of shape {shape} has another number of them")
        self.objects = data


class _ObjectRebuild(Rebuild):
    """The closed list of names of weight files, and arrays of objects."""

    def _table(self) -> dict[str, Any]:
        table = super()._table()
        table["numpy.dtype"] = lambda code, *_: _ObjectType() if code in ("O", "O8", b"O8") else NumpyType(code)
        for core in ("numpy.core", "numpy._core"):
            table[f"{core}.multiarray._reconstruct"] = lambda *_: _ObjectArray()
        return table


def _no_streams(data: Any) -> Any:
    raise WeightsRefused("a torch file inside a numpy file, which no file of directions has")
