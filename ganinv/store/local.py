"""Files on a local disk that appear whole or not at all, whatever kills the writer."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path


def replace_file(path: str, data: bytes, *, sync: bool = True) -> None:
    """Write a file in the place of an older one. Folders are made as needed.

    Args:
        sync: wait until the disk has it. Without, a file can be lost when the machine stops, and many are written faster.
    """
    temporary = _write_beside(path, data, sync)
    _publish(temporary, lambda: os.replace(temporary, path), sync)


def create_file(path: str, data: bytes) -> None:
    """Write a file that must not exist; ``FileExistsError`` when it does."""
    if os.path.lexists(path):  # also where nothing can be written: what is finished there is read
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    temporary = _write_beside(path, data)
    _publish(temporary, lambda: _link(temporary, path))


def _write_beside(path: str, data: bytes, sync: bool = True) -> Path:
    """The bytes, on disk, under a hidden name in the same folder."""
    target = Path(path)
    temporary, made = target.parent / f".{uuid.uuid4().hex}.tmp", list[Path]()
    try:
        made = list(takewhile(lambda folder: not folder.exists(), target.parents))
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # not the answer "somebody was first", which this exception means elsewhere
        raise NotADirectoryError(error.errno, "a file is in the way", error.filename) from error
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        _remove_empty(made)
        if isinstance(error, OSError):  # a full disk names no file, others the hidden one
            error.filename = path
        raise
    return temporary


def _remove_empty(folders: Sequence[Path]) -> None:
    """Folders, the innermost first, that were made for a file that could not be written. What another has put there stays."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _publish(temporary: Path, move: Callable[[], None], sync: bool = True) -> None:
    try:
        move()
    finally:
        temporary.unlink(missing_ok=True)
    if not sync:
        return
    folder = os.open(temporary.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _link(temporary: Path, path: str) -> None:
    """A hard link appears whole and fails when the name is taken; file systems without links get O_EXCL."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        with open(path, "xb") as file:
            file.write(temporary.read_bytes())
            file.flush()
            os.fsync(file.fileno())
