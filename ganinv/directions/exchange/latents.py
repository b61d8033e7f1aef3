"""A latent is not a direction, and their files look alike: what tells them apart."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ganinv.directions.exchange.declared import DeclaredGenerator
from ganinv.directions.exchange.direction_files import DirectionFile
from ganinv.errors import DataError

KEYS = (
    "w",
    "ws",
    "w_plus",
    "wplus",
    "w_pivot",
    "latents",
    "latent",
    "latent_codes",
    "latent_code",
    "codes",
    "projected_w",
)
"""Names that an array of latents has in a dictionary: ``w`` is NVIDIA's projector's."""
_GENERIC = re.compile(
    r"(projected|final|target|inverted|optimi[sz]ed)?[-_]?(w|ws|latents?|latent_codes?|codes?|w_?plus|pivots?)|\d+",
    re.I,
)
ALIKE = 0.5
"""Cosine with the mean of W from which a vector is a latent: those of the embedded generator are at 0.88 on average, directions
in some hundred dimensions at 0."""


def names_no_image(stem: str) -> bool:
    """Whether a file of latents has a name such as ``projected_w`` or ``0``, so that its folder names the image."""
    return _GENERIC.fullmatch(stem) is not None


def without_key(tree: Any, select: Sequence[str]) -> tuple[Any, Sequence[str]]:
    """The array that ``--select w`` asks for as a direction all the same, from a file whose key says that it is a latent."""
    if (
        isinstance(tree, Mapping)
        and len(select) == 1
        and select[0] in KEYS
        and isinstance(tree.get(select[0]), np.ndarray)
    ):
        return tree[select[0]], ()
    return tree, select


def refuse_latents(tree: Any, file: DirectionFile, generator: DeclaredGenerator) -> None:
    """Raises DataError for latents, with the command that takes them.

    They are told by the name of their array (``KEYS``), by the file's name where the array is [1, L, D], by being several
    [N, L, D], and, of a generator whose weights are at hand, by lying where W is.
    """
    because, hint = "", ""
    if isinstance(tree, Mapping):
        key = next((key for key in KEYS if key in tree), None)
        within = [inner for inner in tree.values() if isinstance(inner, Mapping)]
        if any(key in inner for key in KEYS for inner in within):
            because = "it holds the latents of images by their names"
        elif key is not None:
            because, hint = f"its array is named {key!r}", f"; if it is a direction all the same: --select {key}"
    elif isinstance(tree, np.ndarray) and tree.dtype.kind == "f":
        wide = tree.ndim == 3 and tree.shape[1:] == (generator.num_ws, generator.w_dim)
        if wide and len(tree) > 1:
            because = f"it holds {len(tree)} times {generator.num_ws} rows of {generator.w_dim}"
        elif wide and names_no_image(file.stem):
            because, hint = (
                f"it is named {file.name}",
                "; if it is a direction all the same, give the file another name",
            )
        elif _lies_in_w(tree, generator):
            because = "it lies among the latents of the generator, near the mean of W"
    if because:
        raise DataError(
            f"{file.name} is a latent, not a direction ({because}): ganinv latents import {file.name} --name NAME takes it as an "
            f"inversion, which can be edited{hint}"
        )


def _lies_in_w(array: np.ndarray, generator: DeclaredGenerator) -> bool:
    if not len(generator.w_mean) or array.shape[-1] != len(generator.w_mean) or not np.isfinite(array).all():
        return False
    rows, mean = array.reshape(-1, array.shape[-1]).astype(np.float64), np.asarray(generator.w_mean, np.float64)
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(mean)
    return bool((norms > 0).all() and ((rows @ mean) / norms).mean() > ALIKE)
