"""A weight file on this machine: local files in place, remote ones from a cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import fsspec

from ganinv.errors import WeightsRefused
from ganinv.reading.download import DownloadProgress, download
from ganinv.reading.recognise import recognise
from ganinv.reading.source import MemorySource, Span


@dataclass(frozen=True)
class Fetched:
    """Either ``path`` or ``data`` holds the file. ``cached``: whether the path is a copy in our cache."""

    path: str = ""
    data: bytes | None = None
    cached: bool = False

    def forget(self) -> None:
        """Remove a cached copy that turned out not to be a checkpoint, so that the next try fetches it again."""
        if self.cached:
            with contextlib.suppress(OSError):
                os.unlink(self.path)


def cache_folder() -> Path:
    """The folder with copies of remote weight files: ``$GANINV_CACHE``, or ``ganinv/weights`` in the user's cache folder."""
    if own := os.environ.get("GANINV_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ganinv" / "weights"


def fetch(uri: str, sha256: str | None = None, *, progress: DownloadProgress | None = None) -> Fetched:
    """``uri`` as a local file (or as bytes, for ``memory://``).

    A copy is kept for each URL and for each version of it (size, time or tag, if the file system has them). With ``sha256``, a
    copy with this hash is used without asking the file system. A file from HTTP is refused by its first bytes if it is not a
    checkpoint, and an interrupted download is resumed.

    Args:
        progress: called during a download over HTTP with the number of bytes received and the total number, if known.

    Raises:
        WeightsRefused: there is no such file, or it cannot be read.
    """
    with refusing(uri):
        fs, path = fsspec.url_to_fs(uri)
        if _is_local(fs):
            if not Path(path).is_file():
                raise FileNotFoundError(path)
            return Fetched(path=path)
        if _protocol(fs) == "memory":
            return Fetched(data=fs.cat_file(path))
        if (named := _copy_of(sha256)) is not None and named.is_file():
            return Fetched(path=str(named), cached=True)
        copy = named or cache_folder() / hashlib.sha256(f"{uri} {_version(fs, path)}".encode()).hexdigest()
        if not copy.is_file():
            if _plain_http(fs):
                download(path, copy, sha256=sha256, check=_check, progress=progress)
            else:
                _write_whole(copy, lambda target: fs.get_file(path, target))
        return Fetched(path=str(copy), cached=True)


def path_kind(uri: str, sha256: str | None = None) -> Literal["file", "folder", "missing"]:
    """``file``, ``folder`` or ``missing``: what is at ``uri``. A folder counts only with a ``config.json``. A cached file is
    not looked up again.

    Raises:
        WeightsRefused: the file system cannot be asked.
    """
    with refusing(uri):
        fs, path = fsspec.url_to_fs(uri)
        if not uri.endswith("/"):
            if not _is_local(fs) and (named := _copy_of(sha256)) is not None and named.is_file():
                return "file"
            try:
                if fs.info(path)["type"] == "file":
                    return "file"
            except FileNotFoundError as error:
                # fsspec says so of every server that does not answer.
                if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, FileNotFoundError):
                    raise WeightsRefused(
                        f"{uri} cannot be reached: {error.__cause__}. Check the address and the network, then try again"
                    ) from error
        return "folder" if fs.isfile(f"{path.rstrip('/')}/config.json") else "missing"


@contextlib.contextmanager
def refusing(uri: str) -> Iterator[None]:
    """Turns the errors of any file system into a refusal that names the file."""
    try:
        yield
    except WeightsRefused:
        raise
    except FileNotFoundError as error:
        raise WeightsRefused(f"no file at {uri!r}") from error
    except IsADirectoryError as error:
        raise WeightsRefused(f"{uri} is a folder, expected a file") from error
    except Exception as error:
        raise WeightsRefused(f"{uri} cannot be read: {type(error).__name__}: {error}") from error


def _copy_of(sha256: str | None) -> Path | None:
    """The cached copy with this hash, if there is one."""
    return cache_folder() / f"sha256-{re.sub('[^0-9a-f]', '', sha256.lower())[:64]}" if sha256 else None


def _is_local(fs: Any) -> bool:
    return _protocol(fs) in ("file", "local")


def _protocol(fs: Any) -> str:
    return fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]


def _plain_http(fs: Any) -> bool:
    """Whether the URL is HTTP without headers or a login that were set for fsspec; with those, fsspec fetches it."""
    return _protocol(fs) in ("http", "https") and not fs.kwargs and not fs.client_kwargs


def _check(head: bytes, total: int | None) -> None:
    recognise(Span(MemorySource(head), 0, len(head) if total is None else total))


def _version(fs: Any, path: str) -> str:
    info = fs.info(path)
    known = ("size", "ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "md5", "versionId")
    return " ".join(f"{key}={info[key]}" for key in known if info.get(key) is not None)


def _write_whole(target: Path, write: Callable[[str], None]) -> None:
    """Write under another name, then rename: a copy under its final name is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".part-")
    os.close(handle)
    try:
        write(name)
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
