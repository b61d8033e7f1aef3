"""Open any weight file without running any of it."""

from __future__ import annotations

import json
import math
from typing import Any

from ganinv.errors import WeightsRefused
from ganinv.reading.digest import Digest
from ganinv.reading.fetch import fetch
from ganinv.reading.limits import MAX_REPEATS, MAX_SAFETENSORS_HEADER, MAX_TREE_DEPTH, MAX_TREE_NODES, Budget
from ganinv.reading.machine import DAMAGE, Machine
from ganinv.reading.recognise import recognise
from ganinv.reading.source import Cursor, FileSource, MemorySource, Source, Span
from ganinv.reading.stub import Stub
from ganinv.reading.tensors import DTYPES, Storage, StoredArray, StoredTensor, lengths
from ganinv.reading.torch_files import LEGACY_MAGIC, load_legacy, load_zip, new_rebuild

_SAFETENSORS_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip


class Checkpoint:
    """An open weight file. Close it (or use ``with``) when the tensors that you need are loaded.

    Attributes:
        uri: as it was given. size: in bytes.
        container: ``pickle``, ``torch zip``, ``torch stream`` (torch.save before 1.6) or ``safetensors``.
        tree: dicts, lists, tuples, sets, numbers, texts and bytes. Its leaves are ``StoredTensor`` and ``StoredArray``, which
            ``load()`` reads, ``Span`` for long byte strings, which ``read()`` reads, and ``Stub`` for any other object.
    """

    def __init__(self, uri: str, source: Source, container: str, tree: Any, digest: Digest) -> None:
        self.uri = uri
        self.size = source.size
        self.container = container
        self.tree = tree
        self._source = source
        self._digest = digest

    @property
    def sha256(self) -> str:
        """Hash of the whole file. It is computed in parallel with reading, so ask for it late."""
        return self._digest.result()

    def close(self) -> None:
        self._digest.stop()
        self._source.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_checkpoint(uri: str, *, sha256: str | None = None) -> Any:
    """Everything in a weight file, loaded: tensors and arrays on the CPU, plain containers, and stubs for the rest.

    Tensors that share a storage in the file do not share memory afterwards. Nothing in the file runs.

    Args:
        uri: local path or any fsspec URL; the format is recognised by content.
        sha256: expected hash; a file with another hash is refused.

    Raises:
        WeightsRefused: the file is not a checkpoint, is damaged or incomplete, contains forbidden calls, or has the wrong hash.
    """
    with open_checkpoint(uri, sha256=sha256) as checkpoint:
        try:
            return load_tensors(checkpoint.tree)
        except WeightsRefused as error:
            raise WeightsRefused(f"{uri}: {error}") from error


def open_checkpoint(uri: str, *, sha256: str | None = None) -> Checkpoint:
    """Open a weight file; its tensors stay there until they are loaded. Arguments and errors as ``read_checkpoint``."""
    fetched = fetch(uri, sha256)
    source: Source = MemorySource(fetched.data) if fetched.data is not None else FileSource(fetched.path)
    digest = Digest(source)
    try:
        if sha256 is not None and digest.result() != sha256.lower():
            raise WeightsRefused(f"its sha256 is {digest.result()}, expected {sha256}: another file, or a damaged one")
        container, tree = _load(source)
        return Checkpoint(uri, source, container, tree, digest)
    except BaseException as error:
        digest.stop()
        source.close()
        if isinstance(error, WeightsRefused):
            fetched.forget()
            raise WeightsRefused(f"{uri}: {error}") from error
        raise


def load_tensors(tree: Any) -> Any:
    """A copy of a checkpoint's tree with its tensors, arrays and byte strings loaded. What was one object in the tree is one
    object in the copy.

    Raises:
        WeightsRefused: the file is damaged, or tensors repeat their storages so often that they would fill the memory.
    """
    try:
        return _Loader().load(tree, 0)
    except DAMAGE as error:
        raise WeightsRefused(f"damaged: a tensor in it cannot be built ({type(error).__name__}: {error})") from error


class _Loader:
    def __init__(self) -> None:
        self.done: dict[int, Any] = {}
        self.nodes = 0
        self.known: set[int] = set()  # what the leaves' bytes lie in
        self.left = 2**24  # bytes that may still be loaded

    def leaf(self, node: StoredTensor | StoredArray | Span) -> Any:
        if isinstance(node, StoredTensor):
            base, whole, size = id(node.storage), node.storage.nbytes, node.nbytes
        else:
            data = node.data if isinstance(node, StoredArray) else node
            base, whole, size = id(data), len(data), len(data)
        if base not in self.known:
            self.known.add(base)
            self.left += MAX_REPEATS * whole
        self.left -= size
        if self.left < 0:
            raise WeightsRefused(
                "its tensors repeat one another: loaded, they would take many times the size of the file"
            )
        return node.read() if isinstance(node, Span) else node.load()

    def load(self, node: Any, depth: int) -> Any:
        if not isinstance(node, dict | list | tuple | Stub | StoredTensor | StoredArray | Span):
            return node
        if id(node) in self.done:
            return self.done[id(node)]
        self.nodes += 1
        if depth > MAX_TREE_DEPTH or self.nodes > MAX_TREE_NODES:
            raise WeightsRefused(
                f"containers inside containers, more than {MAX_TREE_DEPTH} deep or {MAX_TREE_NODES} in all"
            )
        if isinstance(node, StoredTensor | StoredArray | Span):
            self.done[id(node)] = self.leaf(node)
        elif isinstance(node, tuple):
            self.done[id(node)] = tuple(self.load(v, depth + 1) for v in node)
        elif isinstance(node, list):
            values: list[Any] = []
            self.done[id(node)] = values  # before its values: a list may hold itself
            values.extend(self.load(v, depth + 1) for v in node)
        elif isinstance(node, dict):
            entries: dict[Any, Any] = {}
            self.done[id(node)] = entries
            entries.update((k, self.load(v, depth + 1)) for k, v in node.items())
        else:
            stub = Stub(node.cls)
            self.done[id(node)] = stub
            for name in ("args", "kwargs", "state", "items", "elements"):
                setattr(stub, name, self.load(getattr(node, name), depth + 1))
        return self.done[id(node)]


def _load(source: Source) -> tuple[str, Any]:
    """Container and tree. Any error that a damaged file causes becomes a refusal."""
    try:
        return _load_container(Span(source, 0, source.size))
    except DAMAGE as error:
        raise WeightsRefused(f"damaged: it cannot be read ({type(error).__name__}: {error})") from error


def _load_container(span: Span) -> tuple[str, Any]:
    container = recognise(span)
    if container == "safetensors":
        return container, _load_safetensors(span)
    budget = Budget(span.size)
    rebuild = new_rebuild(budget)
    if container == "torch zip":
        return container, load_zip(span, budget, rebuild)
    cursor = Cursor(span)
    first = Machine(cursor, rebuild).load()
    if type(first) is int and first == LEGACY_MAGIC:
        return "torch stream", load_legacy(cursor, budget, rebuild)
    return container, first


def _load_safetensors(span: Span) -> dict[str, StoredTensor]:
    """The header gives the place of each tensor; together the tensors must fill the rest of the file without a gap."""
    try:
        length = int.from_bytes(span.sub(0, 8).read(), "little")
        if length > MAX_SAFETENSORS_HEADER:
            raise WeightsRefused(f"its header claims {length} bytes")
        header = json.loads(span.sub(8, length).read())
        header.pop("__metadata__", None)
        data, end, out = span.sub(8 + length, span.size - 8 - length), 0, {}
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            start, stop = lengths(entry["data_offsets"], "place")
            if start != end:
                raise WeightsRefused(f"tensor {name[:100]} begins at {start}, not {end}")
            shape = lengths(entry["shape"], "shape")
            storage = Storage(DTYPES[_SAFETENSORS_DTYPES[entry["dtype"]]], math.prod(shape))
            storage.place(data.sub(start, stop - start))
            out[name] = StoredTensor(storage, 0, shape, _row_major(shape))
            end = stop
        if end != data.size:
            raise WeightsRefused(f"its tensors have {end} bytes, {data.size} lie in it")
    except WeightsRefused as error:
        raise WeightsRefused(f"not a whole safetensors file: {error}") from error
    except DAMAGE as error:
        raise WeightsRefused(f"not a whole safetensors file: {type(error).__name__}: {error}") from error
    return {name: out[name] for name in header}


def _row_major(shape: tuple[int, ...]) -> list[int]:
    strides, step = [], 1
    for length in reversed(shape):
        strides.append(step)
        step *= length
    return strides[::-1]
