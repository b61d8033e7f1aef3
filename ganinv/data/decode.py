"""Bytes to pixels, for bytes that nobody vouches for."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageOps, UnidentifiedImageError

from ganinv.data.colour import NoRange, deep_colour, stated_white, to_srgb, twelve_bits
from ganinv.data.kinds import BY_SUFFIX, COMMON, FORMATS, HEIF_SUFFIXES, UNSUPPORTED_SUFFIXES, begins_as_image, is_heif
from ganinv.errors import ImageError

_DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, OverflowError, struct.error, zlib.error
)  # fmt: skip
_BEGINNINGS = (b"\xff\xd8", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_FREQUENT = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG"}


# The limit here is lower than Pillow's, and told in a row of errors.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class ImageRefused(ImageError):
    """An image that cannot be read or decoded.

    ``code`` is ``empty``, ``too_large``, ``truncated``, ``not_an_image``, ``damaged`` or ``unsupported``; for a file whose
    bytes cannot be read, ``missing``, ``unreadable``, ``outside`` or ``shard``.
    """


@dataclass(frozen=True)
class Decoded:
    """An upright RGB image in sRGB, 8 bits a channel, and what of its file was ignored (``colour profile``)."""

    image: Image.Image
    ignored: tuple[str, ...] = ()


def decode_image(
    data: bytes, *, max_pixels: float = 64e6, max_bytes: int = 64 * 2**20, suffix: str = ""
) -> Image.Image:
    """An upright RGB image in sRGB, of 8 bits a channel: the image of :func:`decode`."""
    return decode(data, max_pixels=max_pixels, max_bytes=max_bytes, suffix=suffix).image


def decode(data: bytes, *, max_pixels: float = 64e6, max_bytes: int = 64 * 2**20, suffix: str = "") -> Decoded:
    """A file's image, and what was ignored.

    The EXIF orientation and an embedded colour profile are applied, transparency is composited over white, grey, palette,
    Lab and CMYK are converted, 9 to 16 bits are scaled to 8. Of an animation or a file with several pages the first frame is
    taken.

    Args:
        data: a whole file of any kind that Pillow decodes by itself (``ganinv.data.kinds.FORMATS``), or, where
            ``pillow-heif`` is installed, HEIC.
        max_pixels: checked in the header, before anything is unpacked.
        max_bytes: of the file.
        suffix: of its name, small letters with the dot: it tells formats that begin with nothing of their own, and those that
            cannot be decoded.

    Raises:
        ImageRefused: with a code that says why.
    """
    if not data:
        raise ImageRefused("empty", "the file has no bytes: copy it again")
    if len(data) > max_bytes:
        raise ImageRefused(
            "too_large", f"the file has {len(data)} bytes, at most {max_bytes} are read: store it smaller"
        )
    if suffix in UNSUPPORTED_SUFFIXES:
        raise ImageRefused("unsupported", f"images of kind {suffix} are not decoded here: export it as PNG or JPEG")
    image = _open(data, suffix)
    pixels = image.width * image.height
    if pixels > max_pixels:
        size = f"{image.width}x{image.height}"
        raise ImageRefused(
            "too_large", f"the image has {size} pixels, at most {max_pixels:.0f} are read: make it smaller"
        )
    deep = False
    try:
        image.seek(0)
        deep = deep_colour(image)
        image.load()
    except MemoryError as error:
        raise ImageRefused("too_large", f"there is not enough memory to unpack {pixels} pixels") from error
    except _DECODER_ERRORS as error:
        code = "truncated" if _is_cut(error) else "damaged"
        what = "ends before the image does" if code == "truncated" else "is damaged"
        raise ImageRefused(code, f"the file {what} ({error}): copy it again") from error
    try:
        image = twelve_bits(image, data) if deep else image
        rgb, ignored = to_srgb(upright(image), stated_white(image))
    except NoRange as error:
        raise ImageRefused("unsupported", f"{error}: store 8 or 16 bits a channel") from error
    except (ValueError, OSError) as error:
        raise ImageRefused("unsupported", f"pixels of mode {image.mode} cannot become RGB: {error}") from error
    return Decoded(rgb, (ignored,) if ignored else ())


def _open(data: bytes, suffix: str) -> Image.Image:
    heif = is_heif(data[:64])
    if heif and not heif_is_there():
        code = "unsupported" if suffix in HEIF_SUFFIXES else "not_an_image"
        raise ImageRefused(code, "the file is a HEIC photo: pip install 'ganinv[heif]', or export it as JPEG")
    by_suffix = tuple(name for name, suffixes in BY_SUFFIX.items() if suffix in suffixes)
    try:
        return Image.open(
            io.BytesIO(data), formats=("HEIF",) if heif else _formats(data) or (*_all_formats(), *by_suffix)
        )
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageRefused("too_large", f"{error}: make it smaller") from error
    except (UnidentifiedImageError, *_DECODER_ERRORS) as error:
        if suffix in HEIF_SUFFIXES:
            raise ImageRefused(
                "damaged", f"the file is not a HEIC photo that can be read ({error}): copy it again"
            ) from error
        if data.lstrip()[:1] == b"<":
            message = "the file is a web page or XML, not an image: its download has failed, fetch it again"
            raise ImageRefused("not_an_image", message) from error
        if data.startswith(_BEGINNINGS) or (begins_as_image(data[:64]) and not heif):
            raise ImageRefused("truncated", "the file begins as an image but its header is cut or damaged") from error
        kinds = f"{', '.join(COMMON)} or another of the kinds that Pillow decodes"
        raise ImageRefused("not_an_image", f"the file is none of {kinds}: convert or remove it") from error


def _formats(data: bytes) -> tuple[str, ...]:
    """The one format of a file that begins as nearly all do; for it, Pillow imports no others."""
    return next(((name,) for beginning, name in _FREQUENT.items() if data.startswith(beginning)), ())


@lru_cache(maxsize=1)
def _all_formats() -> tuple[str, ...]:
    """Those that this Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@lru_cache(maxsize=1)
def heif_is_there() -> bool:
    """Whether HEIC can be decoded: the extra ``heif``. Makes Pillow know of it."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


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
