"""FFHQ alignment (Karras et al. 2019): the square that eyes and mouth span, cut out, upright, filled at the rims."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ganinv.data.decode import upright
from ganinv.errors import DataError

Point = Sequence[float] | np.ndarray


def align_face(
    image: Image.Image,
    left_eye: Point,
    right_eye: Point,
    mouth_left: Point,
    mouth_right: Point,
    size: int = 256,
    *,
    supersample: int = 1,
) -> Image.Image:
    """The face as FFHQ frames it, RGB [size, size].

    Left and right are the viewer's: ``left_eye`` has the smaller x in an upright picture. Many detectors name eyes by the
    person's side instead, so theirs must be swapped; points that would mirror or turn the face are refused.

    Args:
        image: of any mode. Where it has an EXIF orientation, that is applied first, as viewers show it.
        left_eye, right_eye: centres of the eyes, (x, y) in pixels of the upright picture.
        mouth_left, mouth_right: corners of the mouth, (x, y) in pixels.
        size: of the result, in pixels.
        supersample: warp at this multiple of the size, then reduce with antialiasing. 1 is what most inversion code does,
            4 is how FFHQ itself was made.

    Raises:
        DataError: points that are not a face, lie outside the picture, or would mirror it or turn it by more than 90 degrees.
    """
    return cut_quad(
        upright(image).convert("RGB"), face_quad(left_eye, right_eye, mouth_left, mouth_right), size, supersample
    )


def cut_quad(image: Image.Image, quad: np.ndarray, size: int, supersample: int = 1) -> Image.Image:
    """A square of an upright RGB image as FFHQ cuts it out, RGB [size, size], whichever way it is turned.

    Args:
        quad: its corners [4, 2], top left, bottom left, bottom right, top right, (x, y) in pixels of the image, whose centres
            have whole numbers.
        size, supersample: of :func:`align_face`.

    Raises:
        DataError: it lies outside the image.
    """
    image, quad = _shrink(image, quad, size)
    if _leaves(image, quad):
        image, quad = _pad(*_crop(image, quad))
    corners = tuple((quad + 0.5).ravel().tolist())
    warped = image.transform((size * supersample,) * 2, Image.Transform.QUAD, corners, Image.Resampling.BILINEAR)
    return warped if supersample == 1 else warped.resize((size, size), Image.Resampling.LANCZOS)


def landmarks68_to_points(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(left_eye, right_eye, mouth_left, mouth_right), each [2], from the 68 iBUG landmarks [68, 2] (x, y) in pixels."""
    if landmarks.shape != (68, 2):
        raise DataError(f"expected 68 landmarks (x, y), got an array of shape {landmarks.shape}")
    points = landmarks.astype(np.float64)
    return points[36:42].mean(0), points[42:48].mean(0), points[48], points[54]


def face_quad(left_eye: Point, right_eye: Point, mouth_left: Point, mouth_right: Point) -> np.ndarray:
    """Corners [4, 2] of FFHQ's square around a face, for :func:`cut_quad`: top left, bottom left, bottom right, top right.

    Points and errors are those of :func:`align_face`.
    """
    points = np.asarray([left_eye, right_eye, mouth_left, mouth_right], np.float64)
    if points.shape != (4, 2) or not np.isfinite(points).all():
        raise DataError(f"alignment needs four points (x, y), got {points.tolist()}")
    eyes, mouth = points[:2].mean(0), points[2:].mean(0)
    eye_to_eye, eye_to_mouth = points[1] - points[0], mouth - eyes
    x = eye_to_eye - _quarter_turn(eye_to_mouth)
    length = float(np.hypot(*x))
    if length == 0 or not eye_to_eye.any() or not eye_to_mouth.any():
        raise DataError("eyes and mouth lie on one point or line: there is no face to align")
    _check_sides(points, eye_to_eye, eye_to_mouth, x)
    x *= max(np.hypot(*eye_to_eye) * 2.0, np.hypot(*eye_to_mouth) * 1.8) / length
    y = _quarter_turn(x)
    centre = eyes + 0.1 * eye_to_mouth
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


def _check_sides(points: np.ndarray, eye_to_eye: np.ndarray, eye_to_mouth: np.ndarray, x: np.ndarray) -> None:
    """Refuse points whose square would show the face mirrored or upside down: nothing in the result would say so."""
    given = f"eyes {points[:2].tolist()}, corners of the mouth {points[2:].tolist()}"
    if eye_to_eye[0] * eye_to_mouth[1] <= eye_to_eye[1] * eye_to_mouth[0]:
        raise DataError(
            f"these points mirror the face ({given}): left is the viewer's left, so left_eye has the smaller x. Swap left and "
            "right where a detector names them by the person's side, and give points as (x, y), with y growing downwards"
        )
    if eye_to_eye @ (points[3] - points[2]) < 0:
        raise DataError(
            f"these points name the eyes by one side and the corners of the mouth by the other ({given}): left is the "
            "viewer's left for both. Swap the pair whose left point has the larger x"
        )
    if x[0] <= 0:
        raise DataError(
            f"these points turn the face by more than 90 degrees ({given}): the mouth lies above the eyes. Turn the picture "
            "upright first, and its points with it"
        )


def _quarter_turn(vector: np.ndarray) -> np.ndarray:
    return np.array([-vector[1], vector[0]])


def quad_side(quad: np.ndarray) -> float:
    """The side of a square, in pixels."""
    return float(np.hypot(*(quad[3] - quad[0])))


def _border(quad: np.ndarray) -> int:
    return max(round(quad_side(quad) * 0.1), 3)


def _shrink(image: Image.Image, quad: np.ndarray, size: int) -> tuple[Image.Image, np.ndarray]:
    """Reduce by an integer factor first, where the face is much larger than the result: the warp does not antialias."""
    factor = int(quad_side(quad) / size * 0.5)
    if factor <= 1:
        return image, quad
    smaller = (round(image.width / factor), round(image.height / factor))
    return image.resize(smaller, Image.Resampling.LANCZOS), quad / factor


def _extent(quad: np.ndarray) -> tuple[int, int, int, int]:
    low, high = np.floor(quad.min(0)), np.ceil(quad.max(0))
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _leaves(image: Image.Image, quad: np.ndarray) -> bool:
    """Whether the square, with what is filtered around it, leaves the image."""
    return bool(_beyond(image, quad).max() > _border(quad) - 4)


def _beyond(image: Image.Image, quad: np.ndarray) -> np.ndarray:
    """Pixels by which the square and a border go beyond the image: left, top, right, bottom."""
    border, (left, top, right, bottom) = _border(quad), _extent(quad)
    outside = (-left + border, -top + border, right - image.width + border, bottom - image.height + border)
    return np.maximum(outside, 0)


def _crop(image: Image.Image, quad: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    """Keep only the square and a border: padding and blurring the rest would be waste."""
    border = _border(quad)
    left, top, right, bottom = _extent(quad)
    left, top = max(left - border, 0), max(top - border, 0)
    right, bottom = min(right + border, image.width), min(bottom + border, image.height)
    if left >= right or top >= bottom:
        raise DataError(f"the face lies outside the image of {image.width}x{image.height} pixels: check its points")
    if (right - left, bottom - top) == image.size:
        return image, quad
    return image.crop((left, top, right, bottom)), quad - (left, top)


def _pad(image: Image.Image, quad: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    """Where the square leaves the image: mirror the image, blur the mirrored part, and fade to the median colour."""
    side = quad_side(quad)
    pad = np.maximum(_beyond(image, quad), round(side * 0.3))
    values = np.asarray(image, np.float32)
    values = np.pad(values, ((pad[1], pad[3]), (pad[0], pad[2]), (0, 0)), mode="reflect")
    height, width = values.shape[:2]
    y, x = np.ogrid[:height, :width]
    inward_x = np.minimum(np.float32(x) / pad[0], np.float32(width - 1 - x) / pad[2])
    inward_y = np.minimum(np.float32(y) / pad[1], np.float32(height - 1 - y) / pad[3])
    outward = (1 - np.minimum(inward_x, inward_y))[..., None]  # 1 at the rim, 0 where the true image begins
    from scipy import ndimage  # a fifth of a second that a process without faces to align need not spend

    blurred = ndimage.gaussian_filter(values, [side * 0.02, side * 0.02, 0])
    values = values + (blurred - values) * np.clip(outward * 3 + 1, 0, 1)
    values = values + (np.median(values, axis=(0, 1)) - values) * np.clip(outward, 0, 1)
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)), quad + pad[:2]
