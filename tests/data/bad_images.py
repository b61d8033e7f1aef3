"""Thirty-one ways in which a file of a data set is not an image that can be used."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests.data.pictures import encoded, noise


def bad_files() -> dict[str, tuple[bytes, str]]:
    """File name -> (bytes, code of the error row)."""
    jpeg, png = encoded(noise(200, 200), "JPEG"), encoded(noise(64, 64))
    half = {kind: encoded(noise(200, 200), kind.upper()) for kind in ("webp", "gif", "tiff", "bmp")}
    return {
        # Cut or damaged on the way.
        "empty.jpg": (b"", "empty"),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "cut-progressive.jpg": (encoded(noise(200, 200), "JPEG", progressive=True)[:900], "truncated"),
        "cut.png": (png[: len(png) // 2], "truncated"),
        **{f"cut.{kind}": (data[: len(data) // 2], "truncated") for kind, data in half.items()},
        "header-only.jpg": (jpeg[:20], "truncated"),
        "flipped.png": (_flipped(png), "damaged"),
        "no-size.png": (_png(0, 0), "truncated"),
        "unknown-compression.tif": (_with_compression(encoded(noise(), "TIFF"), 60_000), "truncated"),
        # Something else under an image's name: failed downloads, other formats, programs.
        "page.jpg": (b"<!DOCTYPE html><html><body>429 Too Many Requests</body></html>", "not_an_image"),
        "storage-error.png": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "not_an_image"),
        "answer.png": (json.dumps({"error": "quota exceeded"}).encode(), "not_an_image"),
        "pointer.png": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n", "not_an_image"),
        "paper.jpg": (b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", "not_an_image"),
        "program.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not_an_image"),
        "archive.png": (_zip(png), "not_an_image"),
        "packed.jpg": (gzip.compress(jpeg), "not_an_image"),
        "phone.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200), "not_an_image"),
        "random.png": (np.random.default_rng(0).bytes(4000), "not_an_image"),
        "zeros.jpg": (bytes(4096), "not_an_image"),
        # Made to hurt, or without a meaning as pixels.
        "bomb.png": (_png(60_000, 60_000), "too_large"),
        "claim.jpg": (_claiming(jpeg, 65_500), "too_large"),
        "text-bomb.png": (_png(8, 8, png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(80 * 2**20)))), "truncated"),
        "not-a-number.tif": (encoded(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF"), "unsupported"),
        "no-range.tif": (encoded(Image.fromarray(np.full((8, 8), 70_000, np.int32)), "TIFF"), "unsupported"),
    }


def put_bad_files(folder: Path) -> dict[str, str]:
    """All of them in a folder, with three that are not told by their bytes; file name -> code."""
    codes = {}
    for name, (data, code) in bad_files().items():
        (folder / name).write_bytes(data)
        codes[name] = code
    with (folder / "huge.png").open("wb") as file:
        file.truncate(65 * 2**20)
    (folder / "leads-nowhere.png").symlink_to(folder / "no-such-file.png")
    (folder / "leads-out.png").symlink_to("/etc/passwd")
    return codes | {"huge.png": "too_large", "leads-nowhere.png": "missing", "leads-out.png": "outside"}


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(width: int, height: int, *more: bytes) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + b"".join(more)
        + png_chunk(b"IDAT", zlib.compress(bytes(1000)))
        + png_chunk(b"IEND", b"")
    )


def _flipped(png: bytes) -> bytes:
    """Bytes in the middle of the pixels turned over."""
    middle = len(png) // 2
    return png[:middle] + bytes(255 - byte for byte in png[middle : middle + 64]) + png[middle + 64 :]


def _claiming(jpeg: bytes, side: int) -> bytes:
    """The same file with another size in its frame header."""
    place = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:place] + struct.pack(">HH", side, side) + jpeg[place + 4 :]


def _with_compression(tiff: bytes, number: int) -> bytes:
    """The same file with another number in its tag 259."""
    place = tiff.index(struct.pack("<HHI", 259, 3, 1)) + 8
    return tiff[:place] + struct.pack("<H", number) + tiff[place + 2 :]


def _zip(data: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("image.png", data)
    return packed.getvalue()
