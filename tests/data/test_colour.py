"""A picture has the same pixels whatever space its file is in."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import png
import pytest
import tifffile
from PIL import Image, ImageCms
from skimage.data import astronaut

from ganinv.data import decode_image
from ganinv.data.decode import decode

from .icc import SPACES, ink_profile, profile, twin
from .pictures import encoded, noise


def picture() -> Image.Image:
    """A photograph, drawn in a little from the edges of sRGB's cube: 8 bits of a wide space are coarse there."""
    return Image.fromarray((np.asarray(Image.fromarray(astronaut()).resize((96, 96))) * 0.9 + 12).astype(np.uint8))


LOSSLESS: dict[str, dict[str, Any]] = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}}


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("kind", [*LOSSLESS, "JPEG"])
def test_a_twin_of_an_srgb_file_decodes_to_the_same_picture(kind: str, space: str) -> None:
    options = LOSSLESS.get(kind, {"quality": 100, "subsampling": 0})
    want = np.asarray(decode_image(encoded(picture(), kind, **options)), float)
    data = encoded(twin(picture(), space), kind, icc_profile=profile(space), **options)
    difference = np.abs(np.asarray(decode_image(data), float) - want)
    # A step of 8 bits in a wider space is up to two of sRGB.
    assert difference.mean() < (2 if kind == "JPEG" else 1)
    assert np.percentile(difference, 95) <= (3 if kind == "JPEG" else 1 if space != "prophoto" else 2)
    unread = np.abs(np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), float) - want)
    assert unread.mean() > 2 * difference.mean()


def test_pixels_with_srgb_s_own_profile_stay_to_the_bit() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(np.asarray(decode_image(encoded(noise(), icc_profile=srgb))), np.asarray(noise()))


@pytest.mark.parametrize("bad", [b"no profile", b"", profile("adobe-rgb")[:200], b"\0" * 400])
def test_a_damaged_profile_is_ignored_and_counted(bad: bytes) -> None:
    decoded = decode(encoded(noise(), icc_profile=bad))
    assert np.array_equal(np.asarray(decoded.image), np.asarray(noise()))
    assert decoded.ignored == (("colour profile",) if bad else ())


def test_a_profile_of_other_pixels_is_ignored_and_counted() -> None:
    grey = noise().convert("L")
    decoded = decode(encoded(grey, icc_profile=profile("adobe-rgb")))
    assert np.array_equal(np.asarray(decoded.image)[..., 0], np.asarray(grey))
    assert decoded.ignored == ("colour profile",)


def test_transparency_and_palettes_keep_their_profile() -> None:
    data = encoded(twin(picture(), "adobe-rgb").convert("RGBA"), icc_profile=profile("adobe-rgb"))
    plain = encoded(twin(picture(), "adobe-rgb"), icc_profile=profile("adobe-rgb"))
    assert np.array_equal(np.asarray(decode_image(data)), np.asarray(decode_image(plain)))
    red = Image.new("P", (4, 4), 0)
    red.putpalette([200, 30, 30])
    shown = np.asarray(decode_image(encoded(red, icc_profile=profile("adobe-rgb"))))[0, 0]
    assert shown[0] > 215  # the same numbers are a stronger red there


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_ink_with_a_profile(kind: str) -> None:
    inks = picture().convert("CMYK")
    decoded = decode(encoded(inks, kind, icc_profile=ink_profile(), **({"quality": 100} if kind == "JPEG" else {})))
    assert decoded.ignored == ()
    difference = np.abs(np.asarray(decoded.image, int) - np.asarray(picture(), int))
    assert difference.mean() < (3 if kind == "JPEG" else 2)  # 8 bits of Lab are coarse
    ignored = decode(encoded(inks, kind, icc_profile=profile("adobe-rgb"))).ignored
    assert ignored == ("colour profile",)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_twelve_bits_in_sixteen(kind: str) -> None:
    grey = np.asarray(picture().convert("L"))
    for bits in (12, 16):
        values = np.rint(grey / 255.0 * (2**bits - 1)).astype(np.uint16)
        assert (
            np.abs(np.asarray(decode_image(encoded(Image.fromarray(values), kind)))[..., 0] - grey.astype(int)).max()
            <= 1
        )


@pytest.mark.parametrize("kind", ["PNG", "PNG with alpha", "TIFF"])
@pytest.mark.parametrize("bits", [12, 16])
def test_twelve_bits_of_colour_in_sixteen(kind: str, bits: int) -> None:
    rgb = np.asarray(picture())
    values = np.rint(rgb / 255.0 * (2**bits - 1)).astype(np.uint16)
    file = io.BytesIO()
    if kind == "TIFF":
        tifffile.imwrite(file, values, photometric="rgb")
    else:
        opaque = np.full((*values.shape[:2], 1), 2**bits - 1, np.uint16)
        rows = values if kind == "PNG" else np.concatenate([values, opaque], axis=2)
        writer = png.Writer(rgb.shape[1], rgb.shape[0], bitdepth=16, greyscale=False, alpha=kind != "PNG")
        writer.write(file, rows.reshape(rgb.shape[0], -1).tolist())
    decoded = np.asarray(decode_image(file.getvalue()), int)
    assert np.abs(decoded - rgb.astype(int)).max() <= 1


def test_a_dark_picture_of_sixteen_bits_stays_dark() -> None:
    dark = np.asarray(picture(), np.uint16) // 255  # 0 or 1 of 65535: no 12 bits
    file = io.BytesIO()
    png.Writer(dark.shape[1], dark.shape[0], bitdepth=16, greyscale=False).write(
        file, dark.reshape(dark.shape[0], -1).tolist()
    )
    assert np.asarray(decode_image(file.getvalue())).max() == 0


def test_bits_that_tiff_states() -> None:
    grey = np.asarray(picture().convert("L"))
    for bits in (10, 14):
        values = np.rint(grey / 255.0 * (2**bits - 1)).astype(np.uint16)
        data = encoded(Image.fromarray(values), "TIFF", tiffinfo={281: 2**bits - 1})
        assert np.abs(np.asarray(decode_image(data))[..., 0] - grey.astype(int)).max() <= 1


def test_lab() -> None:
    to = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = ImageCms.applyTransform(picture(), to)
    assert lab is not None
    difference = np.abs(np.asarray(decode_image(encoded(lab, "TIFF")), int) - np.asarray(picture(), int))
    assert difference.mean() < 2
