"""Edited crops back into photos: what stays to the bit, where they land, and the seam."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from ganinv.data import cut_quad
from ganinv.errors import DataError
from ganinv.faces import paste
from tests.data.pictures import noise


def square(centre: tuple[float, float], side: float, degrees: float = 0.0) -> np.ndarray:
    """Corners [4, 2] as a face turned clockwise has them."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    corners = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) * side / 2
    return corners @ np.array([[cos, sin], [-sin, cos]]) + centre


def photo(width: int = 300, height: int = 240) -> Image.Image:
    """Smooth, as photos are: what is cut out and pasted again is only interpolated."""
    soft = np.asarray(noise(width, height).filter(ImageFilter.GaussianBlur(4)), float)
    return Image.fromarray(np.clip((soft - 127) * 6 + 127, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("degrees", [0, 17, -90, 180])
@pytest.mark.parametrize("size", [64, 256])
def test_what_was_cut_out_lands_where_it_was(degrees: float, size: int) -> None:
    whole, quad = photo(), square((150, 120), 128, degrees)
    crop = cut_quad(whole, quad, size, 4)

    def off(shift: tuple[float, float]) -> float:
        """By how much the photo differs when the crop is pasted so many pixels beside its place."""
        return float(np.abs(np.asarray(paste(whole, crop, quad + shift), int) - np.asarray(whole, int)).mean())

    assert off((0, 0)) < 0.3
    assert all(off(shift) > 1.4 * off((0, 0)) for shift in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)))


def test_pixels_that_are_not_touched_stay_to_the_bit() -> None:
    whole, quad = noise(300, 240), square((150, 120), 100, 20)
    pasted = np.asarray(paste(whole, Image.new("RGB", (64, 64), "red"), quad))
    y, x = np.mgrid[:240, :300]
    across, down = (quad[3] - quad[0]) / 100**2, (quad[1] - quad[0]) / 100**2
    place = np.stack([x, y], -1) - quad[0]
    u, v = place @ across, place @ down
    outside = (u <= 0) | (u >= 1) | (v <= 0) | (v >= 1)
    np.testing.assert_array_equal(pasted[outside], np.asarray(whole)[outside])
    middle = (np.abs(u - 0.5) < 0.25) & (np.abs(v - 0.5) < 0.25)
    assert (pasted[middle] == (255, 0, 0)).all()


def test_an_edit_that_changes_nothing_gives_the_photo_back() -> None:
    """Where the rendering before the edit is given, the photo keeps its own detail, which no generator has."""
    whole, quad = noise(300, 240), square((150, 120), 128, 9)
    rendered = noise(64, 64, seed=1)
    np.testing.assert_array_equal(np.asarray(paste(whole, rendered, quad, before=rendered)), np.asarray(whole))
    brighter = Image.fromarray(np.clip(np.asarray(rendered, int) // 2 + 20, 0, 255).astype(np.uint8))
    darker = Image.fromarray(np.asarray(rendered) // 2)
    grey = Image.new("RGB", (300, 240), (100, 110, 120))
    changed = np.asarray(paste(grey, brighter, quad, before=darker), int) - np.asarray(grey, int)
    assert abs(changed[120, 150] - 20).max() <= 2


def test_the_seam_is_no_step() -> None:
    """A crop of quite another colour rises from nothing: no neighbours differ by more than the ramp does."""
    whole, quad = Image.new("RGB", (300, 240), (40, 80, 120)), square((150, 120), 128, 30)
    pasted = np.asarray(paste(whole, Image.new("RGB", (64, 64), (240, 220, 200)), quad), int)
    steps = max(np.abs(np.diff(pasted, axis=axis)).max() for axis in (0, 1))
    assert steps <= 200 / (0.2 * 128) * 1.5 * 1.5


def test_a_crop_that_reaches_over_the_rim_of_the_photo() -> None:
    whole, quad = photo(), square((10, 230), 128)
    crop = cut_quad(whole, quad, 128, 4)
    pasted = np.asarray(paste(whole, crop, quad), int)
    assert np.abs(pasted - np.asarray(whole, int)).mean() < 0.5


def test_crops_that_cannot_be_pasted() -> None:
    whole, quad = photo(), square((150, 120), 128)
    with pytest.raises(DataError, match=r"square crops of one size, got one of 64x32"):
        paste(whole, Image.new("RGB", (64, 32)), quad)
    with pytest.raises(DataError, match=r"got one of 64x64, and before the edit of 32x32"):
        paste(whole, Image.new("RGB", (64, 64)), quad, before=Image.new("RGB", (32, 32)))
    with pytest.raises(DataError, match=r"lie outside the photo of 300x240"):
        paste(whole, Image.new("RGB", (64, 64)), quad + 1000)
