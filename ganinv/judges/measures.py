"""What landmarks say about a face: yaw, mouth, eyes. Lengths are in units of the distance between the eyes, so the size of the
face does not matter.

Landmarks are in the order of iBUG 300-W, as in ``Faces.landmarks``; NaN stays NaN.
"""

from __future__ import annotations

import numpy as np

from ganinv.judges.faces import Faces

EYES = (slice(36, 42), slice(42, 48))  # left in the image, right in the image
NOSE, MOUTH = 30, (48, 54)
LIPS = ((61, 67), (62, 66), (63, 65))  # inner, upper and lower


def measure_faces(faces: Faces) -> dict[str, np.ndarray]:
    """Measures [N] of each face.

    ``yaw``: offset of the nose towards the right edge of the image. ``mouth_width``: distance of the corners of the mouth.
    ``mouth_opening``: distance of the inner lips. ``smile``: how far the corners of the mouth lie above the middle of the lower
    lip's edge. ``eye_opening``: height over width, mean of both eyes (Soukupova and Cech 2016). ``confidence``: of the
    detector.
    """
    points = faces.landmarks
    left, right = (points[:, eye].mean(1) for eye in EYES)
    across = right - left
    unit = np.linalg.norm(across, axis=1)
    x, down = across / unit[:, None], np.stack([-across[:, 1], across[:, 0]], 1) / unit[:, None]
    middle = (left + right) / 2

    def along(direction: np.ndarray, offset: np.ndarray) -> np.ndarray:
        projected: np.ndarray = (offset * direction).sum(1) / unit
        return projected

    corners = points[:, MOUTH]
    lower = points[:, 57]
    return {
        "yaw": along(x, points[:, NOSE] - middle),
        "mouth_width": along(x, corners[:, 1] - corners[:, 0]),
        "mouth_opening": np.mean([along(down, points[:, b] - points[:, a]) for a, b in LIPS], axis=0),
        "smile": along(down, lower - corners.mean(1)),
        "eye_opening": np.mean([_aspect(points[:, eye]) for eye in EYES], axis=0),
        "confidence": faces.confidence,
    }


def _aspect(eye: np.ndarray) -> np.ndarray:
    """Height over width of an eye's six landmarks [N, 6, 2]."""
    heights = np.linalg.norm(eye[:, 1] - eye[:, 5], axis=1) + np.linalg.norm(eye[:, 2] - eye[:, 4], axis=1)
    ratio: np.ndarray = heights / (2 * np.linalg.norm(eye[:, 0] - eye[:, 3], axis=1))
    return ratio
