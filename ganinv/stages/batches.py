"""Batches whose size leaves no trace in what is computed for an image."""

from __future__ import annotations

from collections.abc import Iterator

STRIDE = 4
"""In batches of a multiple of this, PyTorch's convolutions on a CPU give the same bits for an image wherever it sits
(``tests/stages/test_descent.py`` holds it); in others they differ in the last digits, which a few hundred steps make visible."""


def batches(count: int, most: int) -> Iterator[tuple[list[int], int]]:
    """Cuts ``count`` images into batches of about ``most``: the indices of each, and how many of them are real. The last
    real one is repeated up to a multiple of ``STRIDE``, unless ``most`` is 1."""
    for first in range(0, count, most):
        index = list(range(first, min(first + most, count)))
        yield index + [index[-1]] * idle(len(index), most), len(index)


def idle(real: int, most: int) -> int:
    """How many places a batch of ``real`` images is filled up with."""
    return 0 if most == 1 else -real % STRIDE
