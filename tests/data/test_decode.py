from __future__ import annotations

import contextlib
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganinv.data import ImageRefused, decode_image, to_resolution
from ganinv.errors import DataError

from .bad_images import png_chunk
from .pictures import encoded, noise


def refused(data: bytes, **limits: int) -> ImageRefused:
    with pytest.raises(ImageRefused) as caught:
        decode_image(data, **limits)
    assert isinstance(caught.value, DataError)
    return caught.value


def pixel(data: bytes) -> tuple[int, ...]:
    image = decode_image(data)
    assert image.mode == "RGB"
    value = image.getpixel((0, 0))
    assert isinstance(value, tuple)
    return value


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_kinds_give_the_pixels_back(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(np.asarray(decode_image(encoded(noise(), kind, **options))), np.asarray(noise()))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_files_cut_short(kind: str, share: float) -> None:
    data = encoded(noise(200, 200), kind)
    error = refused(data[: int(len(data) * share)])
    assert error.code == "truncated", str(error)


def test_a_header_cut_short() -> None:
    assert refused(encoded(noise(), "JPEG")[:20]).code == "truncated"
    assert refused(encoded(noise())[:20]).code == "truncated"


def test_a_damaged_middle_never_crashes() -> None:
    rng = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"):
        good = encoded(noise(64, 64), kind)
        for _ in range(40):
            data = bytearray(good)
            for position in rng.integers(0, len(data), 6):
                data[position] = int(rng.integers(0, 256))
            with contextlib.suppress(ImageRefused):  # any other exception fails the test
                decode_image(bytes(data))


def test_no_bytes_and_no_image() -> None:
    assert refused(b"").code == "empty"
    assert refused(b"hello there, this is text").code == "not_an_image"
    page = refused(b"\n<!DOCTYPE html><html>quota exceeded</html>")
    assert page.code == "not_an_image"
    assert "web page" in str(page)


def test_formats_with_programs_in_them_are_not_opened() -> None:
    assert refused(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n").code == "not_an_image"


def test_a_bomb_is_refused_by_its_header() -> None:
    for side in (8001, 12_000, 60_000):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        bomb = (
            b"\x89PNG\r\n\x1a\n"
            + png_chunk(b"IHDR", header)
            + png_chunk(b"IDAT", zlib.compress(b"\0" * 1000))
            + png_chunk(b"IEND", b"")
        )
        assert refused(bomb).code == "too_large"
    assert refused(encoded(noise(40, 30)), max_pixels=1199).code == "too_large"
    assert decode_image(encoded(noise(40, 30)), max_pixels=1200).size == (40, 30)
    assert refused(encoded(noise()), max_bytes=100).code == "too_large"


def test_cmyk() -> None:
    data = encoded(Image.new("RGB", (8, 8), (200, 30, 40)).convert("CMYK"), "JPEG", quality=100)
    np.testing.assert_allclose(pixel(data), (200, 30, 40), atol=6)


def test_sixteen_bits_keep_their_range() -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        image = decode_image(encoded(Image.fromarray(values), kind))
        assert np.asarray(image)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_numbers_without_a_range_are_refused() -> None:
    assert refused(encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF")).code == "unsupported"
    assert refused(encoded(Image.fromarray(np.full((4, 4), 70_000, np.int32)), "TIFF")).code == "unsupported"


def test_transparency_lies_over_white() -> None:
    assert pixel(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0)))) == (255, 255, 255)
    assert pixel(encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 51)))) == (255, 204, 204)
    assert pixel(encoded(Image.new("LA", (4, 4), (0, 0)))) == (255, 255, 255)
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 9, 8, 7])
    assert pixel(encoded(palette)) == (9, 8, 7)
    assert pixel(encoded(palette, transparency=1)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey(mode: str) -> None:
    assert pixel(encoded(Image.new(mode, (4, 4), 1 if mode == "1" else 77))) == (
        (255,) * 3 if mode == "1" else (77,) * 3
    )


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    assert pixel(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)) == (255, 0, 0)


def test_exif_orientation_is_applied() -> None:
    image = Image.new("RGB", (20, 10), "black")
    image.paste((255, 255, 255), (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the stored left is the true top
    upright = decode_image(encoded(image, "JPEG", exif=exif, quality=100))
    assert upright.size == (10, 20)
    assert np.asarray(upright)[2].mean() > 250
    assert np.asarray(upright)[17].mean() < 5


def test_damaged_exif_is_ignored() -> None:
    assert decode_image(encoded(noise(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff garbage")).size == (40, 30)


def test_wide_and_tall_are_cropped_to_the_middle() -> None:
    image = Image.new("RGB", (30, 10), "black")
    image.paste((255, 255, 255), (10, 0, 20, 10))
    for turned in (image, image.transpose(Image.Transpose.ROTATE_90)):
        tensor = to_resolution(turned, 10)
        assert tensor.shape == (3, 10, 10)
        assert tensor.dtype == torch.float32
        assert (tensor == 1).all()


def test_reducing_is_antialiased() -> None:
    board = Image.fromarray(np.kron(np.indices((128, 128)).sum(0) % 2, np.ones((1, 1))).astype(np.uint8) * 255).convert(
        "RGB"
    )
    assert to_resolution(board, 16)[:, 2:-2, 2:-2].abs().max() < 0.1
    assert to_resolution(noise(16, 16), 16).shape == (3, 16, 16)
    assert to_resolution(noise(5, 7), 64).abs().max() <= 1


def test_the_range_is_that_of_the_generator() -> None:
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("RGB")
    tensor = to_resolution(ramp, 16)
    torch.testing.assert_close(tensor[0].flatten(), torch.arange(256) / 127.5 - 1)


@pytest.mark.seconds
def test_pillow_does_not_warn_of_what_is_refused_here(tmp_path: Path) -> None:
    """In a process of its own: pytest has filters of warnings too."""
    Image.new("1", (10_001, 10_001)).save(tmp_path / "large.png")
    code = f"from ganinv.data import decode_image; decode_image(open({str(tmp_path / 'large.png')!r}, 'rb').read())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr
    assert "at most 64000000 are read" in said
    assert "DecompressionBombWarning" not in said
