from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganinv.data import align_face, landmarks68_to_points
from ganinv.errors import DataError

from .pictures import noise

SHARED = Path(os.environ.get("GANINV_SHARED", Path(__file__).parents[3] / "shared"))
GOLDEN = SHARED / "golden" / "alignment" / "ffhq_align.npz"


@pytest.mark.seconds
@pytest.mark.skipif(not GOLDEN.is_file(), reason="no golden data: set GANINV_SHARED to the shared folder")
@pytest.mark.parametrize("name", ["centre", "tilted_corner_pad", "shrink"])
def test_alignment_equals_the_original(name: str) -> None:
    with np.load(GOLDEN, allow_pickle=False) as golden:
        image = Image.fromarray(golden[f"{name}.image_u8"])
        points = landmarks68_to_points(golden[f"{name}.landmarks68"])
        expected = golden[f"{name}.aligned_u8"].astype(int)
    difference = np.abs(np.asarray(align_face(image, *points, 256)).astype(int) - expected)
    assert difference.mean() <= 0.1
    assert (difference > 3).mean() <= 0.01


def test_the_frame_of_a_face() -> None:
    """Eyes and mouth land where FFHQ has them, however the face is turned, shifted and scaled."""
    rng = np.random.default_rng(0)
    true = np.array([[-30.0, -20.0], [30.0, -20.0], [-22.0, 40.0], [22.0, 40.0]])
    landed = []
    for angle, scale in ((0, 1.0), (25, 1.0), (-40, 2.5), (10, 1.5)):
        cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        points = true @ np.array([[cos, sin], [-sin, cos]]) * scale + (250 + rng.normal(0, 5), 250)
        values = np.zeros((500, 500, 3), np.uint8)
        yy, xx = np.mgrid[:500, :500]
        for x, y in points:
            values[(xx - x) ** 2 + (yy - y) ** 2 <= (5 * scale) ** 2] = 255
        left_eye, right_eye, mouth_left, mouth_right = points
        picture = Image.fromarray(values)
        aligned = align_face(picture, left_eye, right_eye, mouth_left, mouth_right, 128, supersample=4)
        white = np.asarray(aligned)[..., 0] > 100
        landed.append([np.argwhere(white)[:, axis].mean() for axis in (0, 1)])
    np.testing.assert_allclose(landed, np.broadcast_to(landed[0], (4, 2)), atol=1.0)
    assert landed[0][1] == pytest.approx(63.5, abs=1)


def test_a_face_at_the_rim_is_filled() -> None:
    image = Image.new("RGB", (100, 100), (90, 120, 150))
    aligned = np.asarray(align_face(image, (5, 20), (45, 20), (10, 60), (40, 60), size=64)).astype(int)
    assert np.abs(aligned - (90, 120, 150)).max() <= 1


def test_points_that_make_no_face() -> None:
    with pytest.raises(DataError, match="no face to align"):
        align_face(noise(), (5, 5), (5, 5), (5, 5), (5, 5))
    with pytest.raises(DataError, match="lies outside the image"):
        align_face(noise(), (905, 905), (945, 905), (910, 950), (940, 950))
    with pytest.raises(DataError, match="needs four points"):
        align_face(noise(), (5, float("nan")), (5, 5), (5, 5), (5, 5))
    with pytest.raises(DataError, match="expected 68 landmarks"):
        landmarks68_to_points(np.zeros((5, 2)))


EYES_AND_MOUTH = ((40.0, 40.0), (80.0, 42.0), (45.0, 85.0), (75.0, 86.0))
"""Of a face in a picture of 120x120, a little tilted."""


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ((1, 0, 3, 2), "mirror the face"),  # a detector that names sides by the person
        ((1, 0, 2, 3), "mirror the face"),
        ((0, 1, 3, 2), "Swap the pair"),
        ((2, 3, 0, 1), "mirror the face"),  # the mouth for the eyes
        ((3, 2, 1, 0), "turn the face"),
    ],
)
def test_points_that_would_mirror_or_turn_the_face_are_refused(order: tuple[int, ...], says: str) -> None:
    points = [EYES_AND_MOUTH[k] for k in order]
    with pytest.raises(DataError, match=says):
        align_face(noise(120, 120), *points)


def test_points_of_other_conventions_are_refused() -> None:
    """(row, column), and y that grows upwards, both mirror the face."""
    for points in ([(y, x) for x, y in EYES_AND_MOUTH], [(x, 120 - y) for x, y in EYES_AND_MOUTH]):
        with pytest.raises(DataError, match="mirror the face"):
            align_face(noise(120, 120), *points)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_the_exif_orientation_is_applied_before_the_points(orientation: int) -> None:
    shown = noise(120, 120)
    undone = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # what stores the shown picture under each orientation
    stored = shown.transpose(Image.Transpose(undone[orientation]))
    stored.getexif()[0x0112] = orientation
    expected = np.asarray(align_face(shown, *EYES_AND_MOUTH, 64))
    np.testing.assert_array_equal(np.asarray(align_face(stored, *EYES_AND_MOUTH, 64)), expected)
