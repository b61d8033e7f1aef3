"""The k highest and the k lowest scores of any number of samples, in memory of size k."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def select_tails(scores: np.ndarray, ids: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of the k highest and the k lowest scores, the most extreme first.

    Ids break ties, so the order is total and tails of partitions can be merged: the tails of
    the partitions' tails are the tails of the whole.
    """
    order = np.lexsort((ids, -scores))
    return order[:k], order[::-1][:k]


class Tails:
    """Both tails of a stream of scores. ``add`` blocks in any order, or ``merge`` tails of partitions.

    Attributes:
        top, bottom: (scores, ids), the most extreme first; at most k each.
    """

    def __init__(self, k: int) -> None:
        self.k = k
        nothing = (np.empty(0), np.empty(0, dtype=object))
        self.top, self.bottom = nothing, nothing

    def add(self, scores: np.ndarray, ids: np.ndarray) -> None:
        """Take a block of samples into account. Scores must not be NaN."""
        if not len(scores):
            return
        self.top = self._kept(self.top, scores, ids, 0)
        self.bottom = self._kept(self.bottom, scores, ids, 1)

    def merge(self, others: Iterable[Tails]) -> Tails:
        """These and other partitions' tails as one."""
        for other in others:
            self.top = self._kept(self.top, *other.top, 0)
            self.bottom = self._kept(self.bottom, *other.bottom, 1)
        return self

    def _kept(
        self, tail: tuple[np.ndarray, np.ndarray], scores: np.ndarray, ids: np.ndarray, side: int
    ) -> tuple[np.ndarray, np.ndarray]:
        if len(tail[0]) == self.k and self.k:  # most of a long stream cannot get in, and is not sorted
            edge = tail[0][-1]
            near = scores >= edge if side == 0 else scores <= edge
            scores, ids = scores[near], ids[near]
        if not len(scores):
            return tail
        all_scores = np.concatenate([tail[0], scores])
        all_ids = np.concatenate([tail[1], ids]) if len(tail[1]) else np.asarray(ids)
        rows = select_tails(all_scores, all_ids, self.k)[side]
        return all_scores[rows], all_ids[rows]
