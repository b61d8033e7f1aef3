"""Pixels of any kind as sRGB of 8 bits: embedded profiles, ink, bit depths, transparency."""

from __future__ import annotations

import hashlib
import io
from functools import lru_cache
from typing import Any

import numpy as np
import png
import tifffile
from PIL import Image, ImageCms

_SPACES = {"RGB": ("RGB",), "GRAY": ("L",), "CMYK": ("CMYK",)}
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
_WITH_ALPHA = ("RGBA", "LA", "La", "RGBa", "PA")
_TWELVE_BITS, _SIXTEEN_BITS = 4095, 65535
_BITS_PER_SAMPLE, _MAX_SAMPLE = 258, 281  # tags of TIFF 6.0


_LOST = 15
"""What 12 bits in a file of 16 come to when the lower byte of each value is dropped, as Pillow does with colour."""


class NoRange(ValueError):
    """Numbers of which nobody says what is black and what is white."""


def to_srgb(image: Image.Image, white: int | None = None) -> tuple[Image.Image, str | None]:
    """(RGB of 8 bits, in sRGB and without transparency; what was ignored, or None).

    An embedded profile is applied; one that is damaged, or that is of another kind of pixels, is ignored.

    Args:
        white: of :func:`stated_white`.

    Raises:
        NoRange: float or 32-bit pixels outside of 0 to 65535.
        ValueError, OSError: pixels that Pillow cannot convert.
    """
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I") or image.mode == "F":
        image = eight_bits(image, white)
    if image.mode == "LAB":
        return _from_lab(image), None
    alpha = None
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        layer = image.convert("RGBA")
        alpha = layer.getchannel("A")
        image = layer.getchannel("R") if image.mode in ("LA", "La") else layer.convert("RGB")
    elif image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    image, ignored = _applied(image, profile) if profile else (image.convert("RGB"), None)
    if alpha is not None:
        image.putalpha(alpha)
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image, ignored


def stated_white(image: Image.Image) -> int | None:
    """The brightest number that an image of 9 to 15 bits can hold, where its TIFF tags say so."""
    tags: Any = getattr(image, "tag_v2", {})
    for tag, of in ((_MAX_SAMPLE, int.bit_length), (_BITS_PER_SAMPLE, int)):
        value = tags.get(tag)
        value = value[0] if isinstance(value, tuple) and value else value
        if isinstance(value, int) and 8 < of(value) < 16:
            return int(2 ** of(value) - 1)
    return None


def eight_bits(image: Image.Image, white: int | None = None) -> Image.Image:
    """Grey of up to 16 bits as grey of 8. A file of 16 bits may hold 12, as scanners and microscopes write it: its tags say so
    (``white``), or no pixel is brighter than a sixteenth."""
    values = np.asarray(image)
    if not np.issubdtype(values.dtype, np.integer) or values.min() < 0 or values.max() > _SIXTEEN_BITS:
        raise NoRange(f"pixels of mode {image.mode} have no known range")
    brightest = int(values.max())
    if white is None or brightest > white:
        white = _TWELVE_BITS if 255 < brightest <= _TWELVE_BITS else _SIXTEEN_BITS
    grey = Image.fromarray(np.rint(values / white * 255.0).astype(np.uint8))
    grey.info = dict(image.info)
    return grey


def deep_colour(image: Image.Image) -> bool:
    """Whether a file that was opened and not yet loaded has colour, or grey beside transparency, of 16 bits a channel."""
    return image.mode in ("RGB", "RGBA", "LA") and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def twelve_bits(image: Image.Image, data: bytes) -> Image.Image:
    """Colour of 8 bits from a loaded file of 16 that holds 12: no value is brighter than a sixteenth. Others stay as Pillow
    read them.

    Args:
        data: the file.

    Raises:
        ValueError, OSError: what reads all bits cannot read this file.
    """
    bands = len(image.getbands())
    colours = bands - (image.mode in _WITH_ALPHA)
    if np.asarray(image)[..., :colours].max(initial=0) > _LOST:
        return image
    values = _all_bits(image, data)
    if not 255 < values[..., :colours].max(initial=0) <= _TWELVE_BITS:
        return image
    whites = [_TWELVE_BITS] * colours + [_TWELVE_BITS if values[..., -1].max() <= _TWELVE_BITS else _SIXTEEN_BITS]
    scaled = np.rint(values / np.array(whites[:bands]) * 255.0).astype(np.uint8)
    deep = Image.fromarray(scaled)
    deep.info = {**image.info, "exif": image.getexif().tobytes()}
    return deep


def _all_bits(image: Image.Image, data: bytes) -> np.ndarray:
    """[H, W, C], 16 bits each, of a PNG or a TIFF file."""
    if image.format == "PNG":
        try:
            width, height, rows, about = png.Reader(bytes=data).read()
            return np.vstack([np.asarray(row, np.uint16) for row in rows]).reshape(height, width, int(about["planes"]))
        except png.Error as error:
            raise ValueError(str(error)) from error
    if image.format == "TIFF":
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            values = np.asarray(page.asarray(), np.uint16)
            apart = values.ndim == 3 and values.shape[2] != len(image.getbands())  # one plane after the other
            return np.moveaxis(values, 0, 2) if apart else values
    raise ValueError(f"colour of more than 8 bits a channel in a {image.format} file")


def _applied(image: Image.Image, profile: bytes) -> tuple[Image.Image, str | None]:
    try:
        transform = _transform(_Profile(profile), image.mode)
        if transform is not None:
            return ImageCms.applyTransform(image, transform) or image, None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image.convert("RGB"), "colour profile"
    return image.convert("RGB"), None


class _Profile:
    """Bytes of a profile that a cache finds by their hash, without comparing them."""

    def __init__(self, data: bytes) -> None:
        self.data, self._digest = data, hashlib.sha256(data).digest()

    def __hash__(self) -> int:
        return hash(self._digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Profile) and other._digest == self._digest


@lru_cache(maxsize=32)
def _transform(profile: _Profile, mode: str) -> Any:
    """From a profile to sRGB; None if that changes no colour by more than one of 255, as of sRGB itself: such pixels stay
    to the bit. A ``ValueError`` for a profile of other pixels."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile.data))
    space = str(source.profile.xcolor_space).strip()
    if mode not in _SPACES.get(space, ()):
        raise ValueError(f"a profile of {space} in an image of {mode}")
    transform = ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        renderingIntent=_INTENT,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    probe = _lattice(mode)
    if probe is None:
        return transform
    after = np.asarray(ImageCms.applyTransform(probe, transform), np.int16)
    return transform if np.abs(after - np.asarray(probe.convert("RGB"), np.int16)).max() > 1 else None


def _lattice(mode: str) -> Image.Image | None:
    """Colours from all over a space; None of ink, which is never sRGB."""
    if mode == "CMYK":
        return None
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.linspace(0, 255, 18).round().astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), -1).reshape(18, -1, 3))


def _from_lab(image: Image.Image) -> Image.Image:
    transform = ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB", renderingIntent=_INTENT
    )
    return ImageCms.applyTransform(image, transform) or image
