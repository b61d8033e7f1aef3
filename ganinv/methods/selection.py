"""Which space inverts which part of an image: SAM's choice by segments (Parmar et al. 2022, section 3.2), and its masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.errors import DataError


def choose_spaces(errors: Tensor, segments: Tensor, threshold: float) -> Tensor:
    """For every pixel the number of the space that its segment is inverted in: int64 [B, H, W].

    A segment gets the first space whose predicted error, averaged over the segment, is at most ``threshold``; the last one
    where none is.

    Args:
        errors: [B, spaces, H, W], the most editable space first (W+), the most faithful last.
        segments: int64 [B, H, W], any labels.

    Raises:
        DataError: segments of another size than the errors.
    """
    if segments.shape != (len(errors), *errors.shape[2:]):
        raise DataError(
            f"segments of {list(segments.shape)} do not fit error maps of {[len(errors), *errors.shape[2:]]}: give a label for "
            "each pixel"
        )
    choice = torch.empty_like(segments)
    for one, labels, chosen in zip(errors, segments, choice, strict=True):
        for label in labels.unique().tolist():
            inside = labels == label
            means = one[:, inside].double().mean(1)
            fits = (means <= threshold).nonzero()
            chosen[inside] = int(fits[0]) if len(fits) else len(means) - 1
    return choice


def binary_masks(choice: Tensor, sides: Sequence[int]) -> list[Tensor]:
    """Where each site acts: 0 or 1, [B, 1, side, side] for every side.

    Binary at each site, so that an edit of nothing changes nothing; the published masks have soft edges, which enter twice in an
    edit.

    Args:
        choice: [B, H, W] as ``choose_spaces`` gives it. The first site's space is number 1.
    """
    masks = []
    for number, side in enumerate(sides, start=1):
        whole = (choice == number).float()[:, None]
        if side >= whole.shape[-1]:
            masks.append(F.interpolate(whole, size=(side, side), mode="nearest"))
        else:
            masks.append((F.adaptive_avg_pool2d(whole, side) >= 0.5).float())
    return masks


def grid_segments(side: int, cells: int) -> Tensor:
    """Labels of equal squares, ``cells`` in each row: int64 [side, side]."""
    line = torch.arange(side) * cells // side
    return line[:, None] * cells + line
