"""An edited crop back into its photo, through the inverse of the transform that cut it out."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ganinv.data.align import quad_side
from ganinv.errors import DataError

FEATHER = 0.2
"""Share of the crop's side over which its mask rises from nothing to the whole."""


def paste(
    photo: Image.Image,
    crop: Image.Image,
    quad: np.ndarray,
    *,
    before: Image.Image | None = None,
    feather: float = FEATHER,
) -> Image.Image:
    """The photo with an edited crop in it, RGB of the photo's size. Pixels outside the crop's mask stay to the bit.

    Args:
        photo: upright, RGB. crop: square, of any size: what the generator rendered.
        quad: corners [4, 2] that the crop was cut out at (``Face.quad``).
        before: what the generator rendered without the edit. Where it is given, the photo keeps its own detail, and the
            *change* from it to ``crop`` is added: right where generator and photo differ in sharpness, and an edit that changes
            nothing gives the photo back. Without it the rendering takes the place of the photo's face.
        feather: share of the crop's side over which the mask rises.

    Raises:
        DataError: crops that are not square or not alike, or a square outside the photo.
    """
    if crop.width != crop.height or (before is not None and before.size != crop.size):
        other = "" if before is None else f", and before the edit of {before.width}x{before.height}"
        raise DataError(f"pasting takes square crops of one size, got one of {crop.width}x{crop.height}{other}")
    left, top = (max(int(v), 0) for v in np.floor(quad.min(0)))
    right, bottom = (min(int(v) + 1, most) for v, most in zip(np.ceil(quad.max(0)), photo.size, strict=True))
    if left >= right or top >= bottom:
        raise DataError(
            f"the crop's corners {quad.round().tolist()} lie outside the photo of {photo.width}x{photo.height}"
        )
    result = photo.convert("RGB")
    box = (left, top, right, bottom)
    there = np.asarray(result.crop(box), np.float32)
    mask = _mask(box, quad, feather)
    new = _warped(crop, box, quad)
    if before is not None:
        new = there + new - _warped(before, box, quad)
    mixed = np.clip(np.rint(there + mask[..., None] * (new - there)), 0, 255).astype(np.uint8)
    result.paste(Image.fromarray(mixed), (left, top))
    return result


def _unit(box: tuple[int, int, int, int], quad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the pixels of a box lie in the square: u to the right and v down, [H, W] each, from 0 to 1 inside it."""
    left, top, right, bottom = box
    side2 = quad_side(quad) ** 2
    x, y = np.arange(left, right, dtype=np.float32) - quad[0, 0], np.arange(top, bottom, dtype=np.float32) - quad[0, 1]
    across, down = quad[3] - quad[0], quad[1] - quad[0]
    u = (x[None] * across[0] + y[:, None] * across[1]) / side2
    v = (x[None] * down[0] + y[:, None] * down[1]) / side2
    return u.astype(np.float32), v.astype(np.float32)


def _mask(box: tuple[int, int, int, int], quad: np.ndarray, feather: float) -> np.ndarray:
    """[H, W] in [0, 1]: 1 in the middle of the square, smoothly 0 at its rim and outside."""
    u, v = _unit(box, quad)

    def rise(t: np.ndarray) -> np.ndarray:
        near = np.clip(np.minimum(t, 1 - t) / max(feather, 1e-6), 0, 1)
        smooth: np.ndarray = near * near * (3 - 2 * near)
        return smooth

    return rise(u) * rise(v)


def _warped(crop: Image.Image, box: tuple[int, int, int, int], quad: np.ndarray) -> np.ndarray:
    """The crop warped into the photo, float32 [H, W, 3]; beyond its rim the nearest pixels are repeated."""
    side = max(round(quad_side(quad)), 1)
    if side < crop.width:  # the transform does not antialias
        crop = crop.resize((side, side), Image.Resampling.LANCZOS)
    left, top, right, bottom = box
    size, rim = crop.width, 2
    values = np.pad(np.asarray(crop.convert("RGB")), ((rim, rim), (rim, rim), (0, 0)), mode="edge")
    across, down = (quad[3] - quad[0]) / quad_side(quad) ** 2 * size, (quad[1] - quad[0]) / quad_side(quad) ** 2 * size
    # From the photo's continuous coordinates, in which a pixel's centre is at one half, to the crop's.
    offset = np.array([left, top]) - (quad[0] + 0.5)
    rows = [(*axis, float(offset @ axis) + rim) for axis in (across, down)]
    where = (right - left, bottom - top)
    coefficients = tuple(float(value) for row in rows for value in row)
    warped = Image.fromarray(values).transform(where, Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    return np.asarray(warped, np.float32)


def seam(photo: Image.Image, pasted: Image.Image, quad: np.ndarray) -> tuple[float, float]:
    """The mean step, in grey levels, between neighbours across the border of a crop's mask: in the photo, and in the photo with
    the crop. A seam that shows makes the second larger.

    The border is where the mask becomes nothing: pixels inside the square with a neighbour outside it.
    """
    left, top = (max(int(v) - 2, 0) for v in np.floor(quad.min(0)))
    right, bottom = (min(int(v) + 3, most) for v, most in zip(np.ceil(quad.max(0)), photo.size, strict=True))
    box = (left, top, right, bottom)
    u, v = _unit(box, quad)
    inside = (u > 0) & (u < 1) & (v > 0) & (v < 1)
    across, down = inside[:, 1:] != inside[:, :-1], inside[1:] != inside[:-1]

    def mean_step(image: Image.Image) -> float:
        values = np.asarray(image.convert("RGB").crop(box), np.float32)
        steps = [np.abs(np.diff(values, axis=1))[across], np.abs(np.diff(values, axis=0))[down]]
        joined = np.concatenate(steps)
        return float(joined.mean()) if joined.size else 0.0

    return mean_step(photo), mean_step(pasted)
