"""Bytes to pixels, for bytes that nobody vouches for."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ganinv.errors import DataError

# Only formats whose decoder is self-contained: PIL would hand EPS to Ghostscript. MPO (phones) comes with JPEG.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_MAGIC = (b"\xff\xd8", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, OverflowError, struct.error, zlib.error
)  # fmt: skip


class ImageRefused(DataError):
    """An image that is not used.

    Args:
        code: ``empty``, ``too_large``, ``truncated``, ``not_an_image``, ``damaged``, ``unsupported``, or, when its
            bytes could not be had, ``missing``, ``unreadable``, ``outside``. Fits :attr:`ganinv.store.RowError.code`.
        message: a sentence for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def decode_image(data: bytes, *, max_pixels: float = 64e6, max_bytes: int = 64 * 2**20) -> Image.Image:
    """An upright RGB image of 8 bits a channel.

    The EXIF orientation is applied, transparency is composited over white, grey, palette and CMYK are converted, 16
    bits are scaled to 8. Of an animation or a file with several pages the first frame is taken.

    Args:
        data: a whole JPEG, PNG, WebP, BMP, GIF, TIFF or PPM file.
        max_pixels: checked in the header, before anything is unpacked.
        max_bytes: of the file.

    Raises:
        ImageRefused: with a code that says why.
    """
    if not data:
        raise ImageRefused("empty", "the file has no bytes: copy it again")
    if len(data) > max_bytes:
        raise ImageRefused(
            "too_large", f"the file has {len(data)} bytes, at most {max_bytes} are read: store it smaller"
        )
    image = _open(data)
    pixels = image.width * image.height
    if pixels > max_pixels:
        size = f"{image.width}x{image.height}"
        raise ImageRefused(
            "too_large", f"the image has {size} pixels, at most {max_pixels:.0f} are read: make it smaller"
        )
    try:
        image.seek(0)
        image.load()
    except MemoryError as error:
        raise ImageRefused("too_large", f"there is not enough memory to unpack {pixels} pixels") from error
    except _DECODER_ERRORS as error:
        code = "truncated" if _is_cut(error) else "damaged"
        what = "ends before the image does" if code == "truncated" else "is damaged"
        raise ImageRefused(code, f"the file {what} ({error}): copy it again") from error
    return _to_rgb(upright(image))


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageRefused("too_large", f"{error}: make it smaller") from error
    except (UnidentifiedImageError, *_DECODER_ERRORS) as error:
        if data.lstrip()[:1] == b"<":
            message = "the file is a web page or XML, not an image: its download has failed, fetch it again"
            raise ImageRefused("not_an_image", message) from error
        if data.startswith(_MAGIC):
            raise ImageRefused("truncated", "the file begins as an image but its header is cut or damaged") from error
        raise ImageRefused("not_an_image", f"the file is none of {', '.join(FORMATS)}: convert or remove it") from error


def _is_cut(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, EOFError) or any(
        w in text for w in ("truncated", "incomplete", "not enough", "unexpected end")
    )


def upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation has it shown."""
    try:
        return ImageOps.exif_transpose(image)
    except (*_DECODER_ERRORS, ZeroDivisionError):  # damaged EXIF says nothing about the pixels
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = _sixteen_to_eight(image)
    try:
        if image.mode in ("RGBA", "LA", "La", "RGBa", "PA") or "transparency" in image.info:
            layer = image.convert("RGBA")
            white = Image.new("RGBA", layer.size, "white")
            return Image.alpha_composite(white, layer).convert("RGB")
        return image.convert("RGB")
    except (ValueError, OSError) as error:
        raise ImageRefused("unsupported", f"pixels of mode {image.mode} cannot become RGB: {error}") from error


def _sixteen_to_eight(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if not np.issubdtype(values.dtype, np.integer) or values.min() < 0 or values.max() > 65535:
        raise ImageRefused(
            "unsupported", f"pixels of mode {image.mode} have no known range: store 8 or 16 bits a channel"
        )
    return Image.fromarray(np.rint(values / 257.0).astype(np.uint8))
