"""Whole objects under one URL: read, put at once, create exclusively, list. The only file that knows file systems."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
import uuid
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fsspec.asyn import sync
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from ganinv.errors import ConfigError, StoreError
from ganinv.store.failures import is_absent, storage_errors
from ganinv.store.local import create_file, replace_file
from ganinv.store.opening import open_url
from ganinv.store.retrying import with_retries

SIDE_BY_SIDE = 32
"""Concurrent requests for many small objects: a thousand at 30 ms each then take a second."""
_memory_lock = threading.Lock()  # fsspec's memory:// looks first and writes then
_probed: set[str] = set()  # stores whose exclusive create was tried out by this process


@dataclass(frozen=True)
class ObjectEntry:
    """An object as a listing shows it. ``modified``: seconds since 1970 by the storage's clock; None if it keeps none."""

    name: str
    bytes: int
    modified: float | None


@dataclass(frozen=True)
class Objects:
    """Objects by path relative to ``url``. Holds no connection, so it pickles and costs nothing to make.

    Args:
        url: an fsspec URL or a local path.
        options: fsspec storage options, such as ``endpoint_url``; not shown in ``repr``, they may hold secrets.
    """

    url: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @with_retries
    def read(self, path: str) -> bytes:
        """All bytes of one object; a :class:`StoreError` if there is none."""
        fs, key = self._at(path)
        with storage_errors("read", self.where(path)):
            return bytes(fs.cat_file(key))

    def read_if_there(self, path: str) -> bytes | None:
        """All bytes of one object, or None when there is no such object."""
        try:
            return self.read(path)
        except StoreError as error:
            if is_absent(error):
                return None
            raise

    def read_many(self, paths: Sequence[str]) -> list[bytes]:
        """Read objects concurrently: reading small ones from S3 is mostly waiting."""
        if len(paths) < 2 or self.is_local:
            return [self.read(path) for path in paths]
        fs, _ = self._at("")
        if getattr(fs, "async_impl", False):  # in the client's own loop, a third cheaper than a thread for each
            found = sync(fs.loop, _read_side_by_side, fs, [self._at(path)[1] for path in paths])
            # What went wrong is read again as one alone is: with its retries, and an error that says what to do.
            return [
                self.read(path) if isinstance(each, BaseException) else bytes(each)
                for path, each in zip(paths, found, strict=True)
            ]
        with ThreadPoolExecutor(min(SIDE_BY_SIDE, len(paths))) as pool:
            return list(pool.map(self.read, paths))

    @with_retries
    def put(self, path: str, data: bytes) -> None:
        """Write one object atomically, replacing an older one: a reader sees all of it or nothing."""
        fs, key = self._at(path)
        with storage_errors("write", self.where(path)):
            if self.is_local:
                replace_file(key, data)
            else:
                fs.pipe_file(key, data)

    @with_retries
    def create(self, path: str, data: bytes) -> None:
        """Write one object that must not exist; ``FileExistsError`` if it does.

        The existing object may be this caller's own, if the storage wrote it and its answer was lost: compare the contents.
        """
        fs, key = self._at(path)
        with storage_errors("create", self.where(path)):
            if self.is_local:
                create_file(key, data)
            elif isinstance(fs, MemoryFileSystem):
                with _memory_lock:
                    fs.pipe_file(key, data, mode="create")
            else:
                self._probe(fs)
                _create_remote(fs, key, data)

    def names(self, folder: str) -> list[str]:
        """Names of objects and folders in ``folder``, sorted, without hidden ones; empty when there is no folder."""
        return sorted({name for name, _ in self._list(folder, detail=False)})

    def entries(self, folder: str) -> list[ObjectEntry]:
        """The objects of ``folder`` by name, with sizes and times; folders in it are left out."""
        found = ((name, entry) for name, entry in self._list(folder, detail=True) if entry.get("type") != "directory")
        entries = (ObjectEntry(name, int(entry.get("size") or 0), _modified(entry)) for name, entry in found)
        return sorted(entries, key=lambda entry: entry.name)

    @with_retries
    def _list(self, folder: str, detail: bool) -> list[tuple[str, Any]]:
        """(name, what fsspec says of it) without hidden ones."""
        fs, key = self._at(folder)
        with storage_errors("list", self.where(folder)):
            fs.invalidate_cache()  # other workers write here too
            try:
                found = fs.ls(key, detail=detail)
            except FileNotFoundError:
                if not self.root_exists():
                    raise
                return []
            fs.invalidate_cache()  # and nobody asks this listing again: a large one is not to stay in memory
        named = ((str(each["name"] if detail else each).rstrip("/").rpartition("/")[2], each) for each in found)
        return [(name, each) for name, each in named if name and not name.startswith(".")]

    def root_exists(self) -> bool:
        """False when the bucket does not exist. Folders come into being with their first object, so they always do."""
        fs, key = self._at("")
        protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
        return protocol not in ("s3", "gs", "gcs", "abfs", "az") or bool(fs.exists(key.split("/")[0]))

    @with_retries
    def remove(self, path: str) -> None:
        """Remove one object; nothing happens when there is none."""
        fs, key = self._at(path)
        with storage_errors("remove", self.where(path)), contextlib.suppress(FileNotFoundError):
            fs.rm_file(key)

    def remove_folder(self, path: str) -> None:
        """Remove the empty folders that remain after their objects were removed. Only local disks have them."""
        if self.is_local:
            shutil.rmtree(self._at(path)[1], ignore_errors=True)

    def where(self, path: str) -> str:
        """The full URL of an object, for messages."""
        return f"{self.url.rstrip('/')}/{path}".rstrip("/")

    @property
    def is_local(self) -> bool:
        return isinstance(self._at("")[0], LocalFileSystem)

    @property
    def is_memory(self) -> bool:
        """Whether this process alone can see it."""
        return isinstance(self._at("")[0], MemoryFileSystem)

    def open(self, path: str) -> Any:
        """A seekable file to read ranges of one object. Use it in ``with``: an s3fs file left open hangs the exit."""
        fs, key = self._at(path)
        fs.invalidate_cache()  # an object that another process wrote after this one had listed its folder
        return fs.open(key, "rb") if self.is_local else fs.open(key, "rb", cache_type="none")

    def _at(self, path: str) -> tuple[Any, str]:
        if ".." in path.split("/") or path.startswith("/"):
            raise ConfigError(f"{path!r} is not a path inside the store {self.url}")
        try:
            fs, root = open_url(self.url, self.options)
        except (ValueError, ImportError, TypeError) as error:
            raise StoreError(
                f"cannot open a store at {self.url!r}: {error}. Expected a folder or a URL such as s3://bucket/root, "
                "gs://bucket/root, memory://root, and options that its file system knows"
            ) from error
        return fs, f"{root.rstrip('/')}/{path}" if path else root

    def _probe(self, fs: Any) -> None:
        """Some S3 clones ignore ``If-None-Match``. Two runs could then share a name unnoticed, so say it once."""
        if self.url in _probed:
            return
        _probed.add(self.url)
        _, key = self._at(f".probe-{uuid.uuid4().hex}")
        fs.pipe_file(key, b"probe")
        try:
            _create_remote(fs, key, b"probe")
        except FileExistsError:
            return
        finally:
            fs.rm_file(key)
        warnings.warn(
            f"the storage behind {self.url} ignores conditional writes: two runs started at the same moment under one "
            "name would not notice each other. Start runs one after another there.",
            stacklevel=4,
        )


def _modified(entry: Mapping[str, Any]) -> float | None:
    """When an object was written: file systems have different names for it."""
    keys = ("mtime", "LastModified", "updated", "last_modified", "created")
    value = next((entry[key] for key in keys if entry.get(key) is not None), None)
    if isinstance(value, str):
        value = datetime.fromisoformat(value.replace("Z", "+00:00"))
    return value.timestamp() if isinstance(value, datetime) else value


async def _read_side_by_side(fs: Any, keys: Sequence[str]) -> list[Any]:
    """All bytes of each object, or what was raised."""
    free = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(key: str) -> Any:
        async with free:
            return await fs._cat_file(key)  # as fsspec's own cat does, which takes * and [ in keys for patterns

    return await asyncio.gather(*(one(key) for key in keys), return_exceptions=True)


def _create_remote(fs: Any, key: str, data: bytes) -> None:
    try:
        fs.pipe_file(key, data, mode="create")
    except FileExistsError:
        raise
    except OSError as error:  # a failed precondition has no exception of its own in every client
        fs.invalidate_cache()
        if not isinstance(error, FileNotFoundError | PermissionError) and fs.exists(key):
            raise FileExistsError(key) from error
        raise
