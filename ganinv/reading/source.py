"""Random access to the bytes of a file, so that large tensors are read only when they are needed, once, and directly into their
place."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from ganinv.errors import WeightsRefused
from ganinv.reading.limits import MAX_STRING


def aligned(size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A buffer of ``size`` bytes with torch's alignment: reading into memory that is not aligned can take four times as
    long."""
    return torch.empty(size, dtype=torch.uint8).numpy()


class Source(Protocol):
    """Bytes with a length. ``read_into`` fills the whole buffer, or refuses."""

    size: int

    def read_into(self, start: int, buffer: memoryview) -> None: ...

    def close(self) -> None: ...


class FileSource:
    """A local file. Reads from several threads are safe."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115  # closed by close()
        except OSError as error:
            raise _unreadable(error) from error
        self._lock = threading.Lock()
        self.size = os.fstat(self._file.fileno()).st_size

    def read_into(self, start: int, buffer: memoryview) -> None:
        view = buffer.cast("B")
        done = 0
        try:
            with self._lock:
                self._file.seek(start)
                while done < len(view) and (count := self._file.readinto(view[done:])):
                    done += count
        except OSError as error:
            raise _unreadable(error) from error
        if done < len(view):
            raise WeightsRefused(f"the file ends at byte {start + done}, {len(view) - done} bytes too early")

    def close(self) -> None:
        self._file.close()


class MemorySource:
    """Bytes that are already in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self.size = len(data)

    def read_into(self, start: int, buffer: memoryview) -> None:
        view = buffer.cast("B")
        part = self._data[start : start + len(view)]
        if len(part) < len(view):
            raise WeightsRefused(f"the data end at byte {start + len(part)}, {len(view) - len(part)} bytes too early")
        view[:] = part

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Span:
    """A range of a source: a byte string that has not been read yet."""

    source: Source
    start: int
    size: int

    def __len__(self) -> int:
        return self.size

    def sub(self, start: int, size: int) -> Span:
        """The part [start, start + size) of this span."""
        if start < 0 or size < 0 or start + size > self.size:
            raise WeightsRefused(f"the file ends {start + size - self.size} bytes too early: it is incomplete")
        return Span(self.source, self.start + start, size)

    def read(self) -> bytes:
        buffer = bytearray(self.size)
        self.read_into(memoryview(buffer))
        return bytes(buffer)

    def read_into(self, buffer: memoryview) -> None:
        if self.size:
            self.source.read_into(self.start, buffer)


class Cursor:
    """Reads a span from front to back through a small buffer; ``skip`` passes over long ranges without reading them."""

    BUFFER = 1 << 16

    def __init__(self, span: Span) -> None:
        self.span = span
        self._buffer = b""
        self._base = 0  # position in the span of the buffer's first byte
        self._at = 0  # position in the buffer

    @property
    def position(self) -> int:
        return self._base + self._at

    @property
    def remaining(self) -> int:
        return self.span.size - self.position

    def read(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._buffer):
            self._need(count)
            position = self.position
            self._buffer = self.span.sub(position, min(max(count, self.BUFFER), self.remaining)).read()
            self._base, self._at, end = position, 0, count
        out = self._buffer[self._at : end]
        self._at = end
        return out

    def readline(self) -> bytes:
        """The bytes up to the next newline, without it."""
        parts, total = [], 0
        while True:
            if self._at == len(self._buffer):
                self._need(1)
                self.read(1)
                self._at -= 1
            end = self._buffer.find(b"\n", self._at)
            stop = len(self._buffer) if end < 0 else end
            parts.append(self._buffer[self._at : stop])
            total += stop - self._at
            if total > MAX_STRING:
                raise WeightsRefused(f"the pickle has a line of more than {MAX_STRING} bytes")
            self._at = stop if end < 0 else end + 1
            if end >= 0:
                return b"".join(parts)

    def skip(self, count: int) -> Span:
        """The next ``count`` bytes as a span, without reading them."""
        self._need(count)
        position = self.position
        out = self.span.sub(position, count)
        if self._at + count <= len(self._buffer):
            self._at += count
        else:
            self._buffer, self._base, self._at = b"", position + count, 0
        return out

    def _need(self, count: int) -> None:
        if count > self.remaining:
            raise WeightsRefused(
                f"incomplete: it ends at byte {self.span.start + self.span.size}, "
                f"{count - self.remaining} bytes before the end of its current record; download it again"
            )


def _unreadable(error: OSError) -> WeightsRefused:
    return WeightsRefused(f"the file cannot be read: {error}")
