"""Frames of a video: images of one folder, in the order of their names."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NUMBER = re.compile(r"(\d+)")


def frame_order(ids: Iterable[str]) -> list[str]:
    """Ids as a person would order them: ``frame-2`` before ``frame-10``."""
    return sorted(
        ids, key=lambda i: ([(0, int(p), "") if p.isdigit() else (1, 0, p) for p in _NUMBER.split(i) if p], i)
    )


def sequence_of(image_id: str) -> str:
    """The folder that an id names; empty for images that lie in none."""
    return image_id.rpartition("/")[0]
