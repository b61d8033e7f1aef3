"""The received part of a download: its bytes, and the version of the file that they belong to."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock


@dataclass
class PartialDownload:
    """``.part-<name>`` beside the file that it will become, with a note of its version in ``.part-<name>.json``.

    Both remain when the process ends. Bytes whose version is not known are never continued: they could belong to another file.

    Attributes:
        validator: the ``ETag`` or ``Last-Modified`` that the host gave with these bytes; "" if it gave none.
        total: bytes of the whole file; None if the host does not say.
    """

    path: Path
    validator: str = ""
    total: int | None = None

    @classmethod
    @contextlib.contextmanager
    def of(cls, target: Path) -> Iterator[PartialDownload]:
        """The part of ``target``, for one process at a time: others wait here until it is done."""
        target.parent.mkdir(parents=True, exist_ok=True)
        path = target.parent / f".part-{target.name}"
        with _locked(target.parent / f".lock-{target.name}"):
            part = cls(path)
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                note = json.loads(part._note.read_text())
                part.validator, part.total = str(note["validator"]), note["total"]
            if not part.validator:
                part.begin("", None)
            try:
                yield part
            finally:
                if path.exists() and (not part.validator or not part.size):
                    part.remove()  # nothing that a later run could continue

    @property
    def _note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def size(self) -> int:
        """Number of bytes received."""
        return self.path.stat().st_size

    @property
    def complete(self) -> bool:
        return self.total is not None and self.size == self.total

    def begin(self, validator: str, total: int | None) -> None:
        """Start again, with bytes of this version."""
        self.path.open("wb").close()  # before the note: bytes of an old version must not be beside a new one
        self.validator, self.total = validator, total
        self._note.write_text(json.dumps({"validator": validator, "total": total}))

    def open_at_end(self) -> BinaryIO:
        file = self.path.open("r+b")
        file.seek(0, os.SEEK_END)
        return file

    def sha256(self) -> str:
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def become(self, target: Path) -> None:
        """Give the complete file its name."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(self.path, target)
        self._note.unlink(missing_ok=True)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock the empty file at ``path``, which is created if necessary and stays. The lock ends with the process, however it
    ends."""
    lock = FileLock(path)
    with contextlib.suppress(OSError):  # file systems without locks
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
