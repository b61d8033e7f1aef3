"""Where in a photo a crop of it was cut out, from the pixels alone."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage


def found_quad(photo: Image.Image, crop: Image.Image, start: np.ndarray, steps: int = 30) -> tuple[np.ndarray, float]:
    """The corners [4, 2] of a square crop in its photo, and the mean absolute difference that is left, in grey levels.

    Gauss and Newton's method on shift, turn and scale of the square, on blurred pictures, from ``start`` near it.
    """
    size = crop.width
    wanted = ndimage.gaussian_filter(np.asarray(crop.convert("L"), np.float64), 1.0)
    side = float(np.hypot(*(start[3] - start[0])))
    grey = ndimage.gaussian_filter(np.asarray(photo.convert("L"), np.float64), np.hypot(side / size, 0.3))
    slope_y, slope_x = np.gradient(grey)
    at = (np.arange(size) + 0.5) / size - 0.5
    u, v = np.meshgrid(at, at)
    centre, across = start.mean(0), start[3] - start[0]
    left = np.inf
    for _ in range(steps):
        x, y = centre[0] + u * across[0] - v * across[1], centre[1] + u * across[1] + v * across[0]
        inside = ((x > 1) & (x < photo.width - 2) & (y > 1) & (y < photo.height - 2)).ravel()
        look = lambda values, x=x, y=y: ndimage.map_coordinates(values, [y, x], order=1, mode="nearest").ravel()  # noqa: E731
        difference, gx, gy = wanted.ravel() - look(grey), look(slope_x), look(slope_y)
        columns = [
            gx,
            gy,
            gx * u.ravel() + gy * v.ravel(),
            gy * u.ravel() - gx * v.ravel(),
            np.ones(u.size),
            look(grey),
        ]
        change, *_ = np.linalg.lstsq(np.stack(columns, 1)[inside], difference[inside], rcond=None)
        centre, across = centre + change[:2], across + change[2:4]
        left = float(np.abs(difference[inside]).mean())
        if np.abs(change[:4]).max() < 0.01:
            break
    down = np.array([-across[1], across[0]])
    corners = [centre - across / 2 - down / 2, centre - across / 2 + down / 2]
    return np.stack([*corners, centre + across / 2 + down / 2, centre + across / 2 - down / 2]), left
