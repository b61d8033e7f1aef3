"""Identify a file by its first bytes. Anything that is not a checkpoint is refused with a message that says what it is."""

from __future__ import annotations

import re
from typing import Literal

from ganinv.errors import WeightsRefused
from ganinv.reading.source import Span

Container = Literal["torch zip", "pickle", "safetensors"]

_ARCHIVES = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"7z\xbc\xaf": "7-zip",
}
_ARCHIVES |= {b"Rar!": "rar"}
_OTHERS = {
    b"\x93NUMPY": "a numpy array (.npy), not a checkpoint",
    b"\x89HDF": "an HDF5 file (Keras, TensorFlow); StyleGAN2 files are pickles, torch files or safetensors",
    b"GGUF": "a GGUF language model, not a StyleGAN2",
    b"\x89PNG": "a PNG image, not a checkpoint",
    b"\xff\xd8\xff": "a JPEG image, not a checkpoint",
    b"%PDF": "a PDF document, not a checkpoint",
    b"PK\x05\x06": "an empty zip archive",
}


def recognise(span: Span) -> Container:
    """The container of ``span``. If it is something else, raises WeightsRefused with a message that says what it is."""
    if span.size == 0:
        raise WeightsRefused("it is empty (0 bytes): the download or the copy failed; fetch it again")
    head = span.sub(0, min(span.size, 1024)).read()
    _refuse_pages(head, span.size)
    for magic, name in _ARCHIVES.items():
        if head.startswith(magic):
            raise WeightsRefused(f"a {name} archive; unpack it and open the file inside")
    if head[257:262] == b"ustar":
        raise WeightsRefused(
            "a tar archive (or a torch file older than 0.4); unpack it, or save it again with a newer torch"
        )
    for magic, words in _OTHERS.items():
        if head.startswith(magic):
            raise WeightsRefused(words)
    if head.startswith(b"PK\x03\x04"):
        return "torch zip"
    if head[0] == 0x80 and (len(head) == 1 or head[1] <= 5):
        return "pickle"
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and length < 2**40:
        return "safetensors"
    if head[0:1] in b"(}]cilS":  # protocols 0 and 1 have no mark of their own
        return "pickle"
    raise WeightsRefused(
        f"an unknown kind of file (it begins with {head[:12]!r}); expected a pickle, a torch file or safetensors"
    )


def _refuse_pages(head: bytes, size: int) -> None:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml", b"<!--")) or (
        text.startswith(b"<") and b"<html" in text
    ):
        title = re.search(rb"<title[^>]*>([^<]{1,100})", head, re.IGNORECASE)
        said = f" (titled {title[1].decode('utf-8', 'replace').strip()!r})" if title else ""
        raise WeightsRefused(
            f"it is a web page, not a checkpoint{said}: the host sent a page instead of the file, as it does when a quota "
            "is used up or a confirmation is wanted; download it again, in a browser if need be"
        )
    if text.startswith(b"version https://git-lfs"):
        raise WeightsRefused("it is a Git LFS pointer, not the file itself; run: git lfs pull")
    if text.startswith((b'{"', b"{\n", b"[{")) or (text.startswith(b"{") and size < 4096):
        raise WeightsRefused("it is JSON text, not a checkpoint (a server's error message looks like this)")
