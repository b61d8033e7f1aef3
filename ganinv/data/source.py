"""Where the bytes of an image are, and the file system they are on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from ganinv.data.names import local_uri
from ganinv.errors import DataError, DataUnavailable, GaninvError
from ganinv.store.failures import is_transient, reason
from ganinv.store.opening import open_url
from ganinv.store.retrying import with_retries

MAGIC = re.compile(r"[*?\[]")
"""What makes a path a glob."""


@dataclass(frozen=True, slots=True)  # a driver holds millions of them
class SourceRef:
    """One image: a file, a byte range of a tar, or a row of a Parquet file.

    Args:
        uri: for display and the ``source_uri`` column; ``#member`` or ``#row`` refers to an image inside a file.
        path: the file as its file system knows it.
        offset, length: byte range of a tar member; a plain file has its length only.
        row, column: place in a Parquet file.
        key: its place within the data set, which names it (``ganinv.data.identity``); empty in indexes of older versions.
        version: of the file when it was listed; changes with the content. None if the storage provides none.
        fault: why a shard cannot be read. The source then represents the images that would be in it.
    """

    uri: str
    path: str
    offset: int | None = None
    length: int | None = None
    row: int | None = None
    column: str | None = None
    key: str = ""
    version: str | None = None
    fault: str | None = None


@dataclass(frozen=True)
class Place:
    """A URL with the options its file system needs. Holds no connection, so it pickles."""

    url: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def fs(self) -> Any:
        return self._open()[0]

    @property
    def root(self) -> str:
        """The URL as a path of its file system, without a trailing slash."""
        return str(self._open()[1]).rstrip("/")

    @property
    def is_local(self) -> bool:
        return isinstance(self.fs, LocalFileSystem)

    def uri(self, path: str) -> str:
        """A path of the file system as people write it."""
        return self.uris([path])[0]

    def uris(self, paths: Sequence[str]) -> list[str]:
        """:meth:`uri` of each. To open the file system for each of a million takes minutes."""
        fs = self.fs
        if isinstance(fs, LocalFileSystem):
            return [local_uri(path) for path in paths]
        return [str(fs.unstrip_protocol(path)) for path in paths]

    def holds(self, path: str) -> bool:
        """False for a link on a local disk that leads out of the folder, or the folder of the glob, that was named, and out of
        the folder that it lies in (which may itself be a linked one)."""
        if not os.path.islink(path) or not self.is_local or path == self.root:
            return True
        named = MAGIC.split(self.root)[0].rpartition("/")[0] if MAGIC.search(self.root) else self.root
        target = Path(os.path.realpath(path))
        return any(target.is_relative_to(os.path.realpath(folder)) for folder in (named, os.path.dirname(path)))

    @with_retries
    def read(self, source: SourceRef) -> bytes:
        """The bytes of a file or tar member. ``FileNotFoundError`` and ``PermissionError`` pass: they hit one image."""
        end = None if source.offset is None or source.length is None else source.offset + source.length
        with reading(source.uri, pass_missing=True):
            return bytes(self.fs.cat_file(source.path, start=source.offset, end=end))

    def _open(self) -> tuple[Any, str]:
        try:
            fs, root = open_url(self.url, self.options)
        except (ValueError, ImportError, TypeError) as error:
            raise DataError(
                f"cannot open a data set at {self.url!r}: {error}. Expected a path or an fsspec URL"
            ) from error
        return fs, root


@contextmanager
def reading(uri: str, pass_missing: bool = False) -> Iterator[None]:
    """Turn what a file system raises inside the block into one clear :class:`DataError`."""
    try:
        yield
    except GaninvError:
        raise
    except Exception as error:  # every cloud client has exceptions of its own
        if pass_missing and isinstance(error, FileNotFoundError | PermissionError):
            raise
        kind = DataUnavailable if is_transient(error) else DataError
        raise kind(f"cannot read {uri}: {reason(error)}") from error
