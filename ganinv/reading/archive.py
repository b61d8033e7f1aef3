"""The zip archive that ``torch.save`` writes. Its entries are uncompressed, so they are read in place."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

from ganinv.errors import WeightsRefused
from ganinv.reading.limits import MAX_ZIP_DIRECTORY, Budget
from ganinv.reading.source import MemorySource, Span

_BROKEN: tuple[type[Exception], ...] = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    LookupError,
    OSError,
    EOFError,
    RuntimeError,
    OverflowError,
)


class Archive:
    """Entries of a zip archive, by name."""

    def __init__(self, span: Span) -> None:
        self._span = span
        try:
            self._zip = zipfile.ZipFile(_Readable(span))  # type: ignore[arg-type]
            self._entries = {info.filename: info for info in self._zip.infolist()}
        except _BROKEN as error:
            raise WeightsRefused(
                "incomplete or damaged: it begins as a zip archive of torch.save, but the directory at its end is missing "
                "or wrong; download it again"
            ) from error

    def __contains__(self, name: str) -> bool:
        return name in self._entries or (name.endswith("/") and any(n.startswith(name) for n in self._entries))

    def root_of(self, name: str) -> str:
        """The folder (with its slash) that contains ``name``; torch names the folder after the file."""
        roots = [n[: -len(name)] for n in self._entries if n == name or (n.endswith(f"/{name}") and n.count("/") == 1)]
        if len(roots) == 1:
            return roots[0]
        names = list(self._entries)
        if names and all(n.endswith(".npy") for n in names):
            raise WeightsRefused("a numpy archive (.npz) of arrays, not a checkpoint")
        raise WeightsRefused(
            f"a zip archive, but not of torch.save: it has no {name} (it holds {', '.join(names[:5])[:200]})"
        )

    def read(self, name: str, limit: int) -> bytes:
        """The bytes of a small entry."""
        return self.span(name, None, limit).read()

    def span(self, name: str, budget: Budget | None, limit: int | None = None) -> Span:
        """An entry's bytes: in place, or unpacked within ``budget`` if the archive was packed again with compression."""
        info = self._entries.get(name)
        if info is None:
            raise WeightsRefused(f"incomplete: its archive has no entry {name[:100]}")
        if limit is not None and info.file_size > limit:
            raise WeightsRefused(f"damaged: entry {name[:100]} has {info.file_size} bytes, expected at most {limit}")
        if info.flag_bits & 1:
            raise WeightsRefused("an encrypted zip archive; unpack it and save it without a password")
        if info.compress_type != zipfile.ZIP_STORED:
            return self._unpack(info, budget)
        if info.compress_size != info.file_size:
            raise WeightsRefused(f"damaged: entry {name[:100]} has two sizes")
        # The local header repeats the name and has an extra field of its own length.
        header = self._span.sub(info.header_offset, 30).read()
        if header[:4] != b"PK\x03\x04":
            raise WeightsRefused(f"damaged: entry {name[:100]} does not lie where the archive's directory says")
        name_size, extra_size = struct.unpack("<HH", header[26:30])
        return self._span.sub(info.header_offset + 30 + name_size + extra_size, info.file_size)

    def _unpack(self, info: zipfile.ZipInfo, budget: Budget | None) -> Span:
        if info.compress_type != zipfile.ZIP_DEFLATED:  # others let the file say how much memory unpacking takes
            raise WeightsRefused("a zip archive packed by another method than deflate; unpack it and pack it without")
        if budget is not None:
            budget.store(info.file_size)
        try:
            with self._zip.open(info) as file:
                data = file.read(info.file_size)
        except _BROKEN as error:
            raise WeightsRefused(f"damaged: entry {info.filename[:100]} cannot be unpacked") from error
        if len(data) != info.file_size:
            raise WeightsRefused(f"damaged: entry {info.filename[:100]} is shorter than the archive says")
        return Span(MemorySource(data), 0, len(data))


class _Readable(io.RawIOBase):
    """A span in the form of the file object that ``zipfile`` needs; no single read may be longer than a directory."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._span.size}[whence]
        if base + offset < 0:
            raise ValueError("negative position")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(self._span.size - self._at, 0)
        count = left if size is None or size < 0 else min(size, left)
        if count > MAX_ZIP_DIRECTORY:
            raise ValueError("the directory of the archive is too long")
        out = self._span.sub(self._at, count).read()
        self._at += count
        return out
