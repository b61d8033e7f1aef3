"""Flicker: what changes from frame to frame of renderings, and does not in the photos."""

from __future__ import annotations

from torch import Tensor

INTERIOR = 0.125
"""Share of the side that is left out at each rim: there crops show background, and what alignment mirrored into them."""


def frame_changes(frames: Tensor) -> Tensor:
    """Mean absolute change of frames [T, C, R, R] from each to the next, in the interior: [T - 1].

    In the units of the frames: a whole range of grey levels is 2 for images in [-1, 1].
    """
    rim = round(INTERIOR * frames.shape[-1])
    inner = frames[..., rim : frames.shape[-2] - rim, rim : frames.shape[-1] - rim]
    return (inner[1:] - inner[:-1]).abs().flatten(1).mean(1)


def flicker(renderings: Tensor, photos: Tensor) -> float:
    """Mean change of renderings [T, C, R, R] between neighbouring frames, less that of the photos they are of.

    0 where renderings move as the photos do; above, they flicker; below, motion (or the photos' noise) is not in them. It
    compares neighbours of a video with those of its source, as the temporally local identity of Tzaban et al. 2022 ("Stitch
    it in Time", section 4) does, in pixels in the place of a face network's features.

    Raises:
        ValueError: fewer than two frames, or not as many of both.
    """
    if len(renderings) != len(photos) or len(photos) < 2:
        raise ValueError(
            f"flicker needs as many renderings as photos, two at least, got {len(renderings)} and {len(photos)}"
        )
    return float((frame_changes(renderings) - frame_changes(photos)).mean())
