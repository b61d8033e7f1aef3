"""PNG files that are written quickly."""

from __future__ import annotations

import io

import numpy as np
import pytest
import skimage.data
from PIL import Image

from ganinv.data.png import quick_png


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (256, 256), (70, 41)])
def test_a_quick_png_has_the_pixels_and_is_not_large(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    photo = Image.fromarray(skimage.data.astronaut()).resize(size)
    for image in (Image.fromarray(noise), photo, Image.new("RGB", size, (200, 3, 77))):
        data = quick_png(image)
        with Image.open(io.BytesIO(data)) as opened:
            opened.verify()
        with Image.open(io.BytesIO(data)) as opened:
            assert (opened.format, opened.mode, opened.size) == ("PNG", "RGB", size)
            assert np.array_equal(np.asarray(opened), np.asarray(image))
    photo.save(plain := io.BytesIO(), "PNG")
    assert len(quick_png(photo)) < 1.2 * len(plain.getvalue()) + 100


def test_what_is_not_rgb_is_refused() -> None:
    with pytest.raises(ValueError, match="expected an RGB image of 8 bits, got mode 'L'"):
        quick_png(Image.new("L", (4, 4)))
