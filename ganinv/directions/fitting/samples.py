"""Labelled latents, read a block at a time and as often as a fit needs: memory does not grow with their number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from ganinv.errors import DataError

BLOCK = 8192
LatentSpace = Literal["z", "w", "w+"]


@dataclass(frozen=True)
class Block:
    """Some samples: ids [n] (texts or numbers), scores float64 [n], and latents [n, D] if requested."""

    ids: np.ndarray
    scores: np.ndarray
    latents: np.ndarray


class Samples(Protocol):
    """A table of labelled latents. ``blocks`` may be called any number of times and returns the same rows each time."""

    def blocks(self, attribute: str, *, latents: bool) -> Iterator[Block]: ...


class LabelledSamples(Samples, Protocol):
    """Samples with scores of several attributes.

    Attributes:
        columns: attribute -> the column its scores are in. rows: of W+, where latents are [num_ws, w_dim]; else None.
    """

    columns: Mapping[str, str]
    rows: int | None

    def of_ids(self, names: list[str]) -> np.ndarray:
        """Latents of some samples, in the order of ``names``: [n, D], or [n, num_ws, w_dim] in W+."""
        ...


class ArraySamples:
    """Samples that are in memory.

    Args:
        latents: [N, D]. scores: attribute -> [N] or [N, 1]. ids: [N], unique; row numbers by default.

    Raises:
        DataError: shapes that do not fit, or ids that are not unique.
    """

    def __init__(
        self,
        latents: np.ndarray,
        scores: Mapping[str, np.ndarray],
        ids: Sequence[Any] | np.ndarray | None = None,
    ) -> None:
        self.latents = np.asarray(latents)
        self.ids = np.arange(len(self.latents)) if ids is None else np.asarray(ids)
        self.scores = {}
        for name, values in scores.items():
            y = np.asarray(values, dtype=np.float64)
            y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
            if self.latents.ndim != 2 or y.shape != (len(self.latents),) or self.ids.shape != y.shape:
                raise DataError(
                    f"attribute {name!r}: expected latents [N, D] and one score and id per latent, got latents "
                    f"{self.latents.shape}, scores {np.asarray(values).shape}, ids {self.ids.shape}"
                )
            self.scores[name] = y
        if len(np.unique(self.ids)) != len(self.ids):
            raise DataError(f"attribute {next(iter(scores), '')!r}: sample ids are not unique; remove repeated samples")

    def blocks(self, attribute: str, *, latents: bool) -> Iterator[Block]:
        for start in range(0, len(self.ids), BLOCK):
            part = slice(start, start + BLOCK)
            yield Block(self.ids[part], self.scores[attribute][part], self.latents[part])


class SampleDraws:
    """Random numbers that belong to a sample's id: whatever the order or the partition of a table, a sample falls on the
    same side of a split and has the same weight in a bootstrap.

    Args:
        seed: of the run. purpose: what the numbers are for.
    """

    _POISSON = np.cumsum(np.exp(-1) / np.array([1, 1, 2, 6, 24, 120, 720, 5040], dtype=np.float64))

    def __init__(self, seed: int, purpose: str) -> None:
        self.key = f"{seed}/{purpose}/"

    def uniform(self, ids: np.ndarray, count: int) -> np.ndarray:
        """[n, count] in [0, 1)."""
        digest = lambda i: hashlib.shake_128(f"{self.key}{i}".encode()).digest(4 * count)  # noqa: E731
        drawn = b"".join([digest(i) for i in ids.tolist()])
        return np.frombuffer(drawn, dtype="<u4").reshape(len(ids), count) / 2.0**32

    def poisson(self, ids: np.ndarray, count: int) -> np.ndarray:
        """[n, count] ~ Poisson(1): how often each sample occurs in each of ``count`` bootstrap resamples."""
        return np.searchsorted(self._POISSON, self.uniform(ids, count), side="right").astype(np.float64)
