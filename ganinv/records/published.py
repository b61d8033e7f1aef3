"""Latents that other programs wrote: what is in their files, told from names and shapes. Nothing in a file runs.

NVIDIA's projector: ``projected_w.npz``, ``w`` [1, L, D]. pSp and e4e: ``latents.pt``, [N, L, D] in the order of sorted paths.
ReStyle and HyperStyle: ``latents.npy``, a dictionary of file name -> [L, D], or a list of one for each step, of which the last is
taken. PTI: ``embeddings/<data>/PTI/<image>/0.pt``, [1, L, D] for each image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ganinv.directions.exchange.checked import brief, plain
from ganinv.directions.exchange.direction_files import DirectionFile, read_direction_file
from ganinv.directions.exchange.latents import KEYS, names_no_image
from ganinv.errors import DataError

MAX_BYTES = 8 * 2**30
SUFFIXES = (".npz", ".npy", ".pt", ".pth")


@dataclass(frozen=True)
class Latent:
    """One image's.

    Args:
        image_id: by the names in the file, the file's own, or that of its folder.
        w: [1, D] of W, or [L, D] of W+.
        file: its name. sha256: of the file.
    """

    image_id: str
    w: np.ndarray
    file: str
    sha256: str


def read_latents(uris: Sequence[str], rows: int, width: int, names: Sequence[str] | None = None) -> list[Latent]:
    """Every latent in some files, sorted by id.

    Args:
        uris: files, as paths or fsspec URLs.
        rows, width: L and D of the generator.
        names: of the images, in the files' order, where the files do not have them.

    Raises:
        WeightsRefused: no such file, a damaged one, or one of another kind.
        DataError: no latents in it, latents of another generator, two of one name, or another number of names.
    """
    found = [latent for uri in uris for latent in _of_file(read_direction_file(uri, most=MAX_BYTES), uri, rows, width)]
    if names is not None:
        if len(names) != len(found):
            raise DataError(
                f"there are {len(found)} latents and {len(names)} names: give one for each, in the files' order"
            )
        found = [Latent(name, one.w, one.file, one.sha256) for name, one in zip(names, found, strict=True)]
    seen: dict[str, str] = {}
    for one in found:
        if one.image_id in seen:
            raise DataError(
                f"two latents are named {one.image_id!r}, of {seen[one.image_id]} and {one.file}: import one of the folders "
                "alone, or give the names (--ids)"
            )
        seen[one.image_id] = one.file
    return sorted(found, key=lambda one: one.image_id)


def _of_file(file: DirectionFile, uri: str, rows: int, width: int) -> Iterator[Latent]:
    tree = plain(file.tree, file)
    if isinstance(tree, Mapping):
        known = next((key for key in KEYS if key in tree), None)
        if known is None:
            arrays = {str(key): value for key, value in tree.items() if not isinstance(value, str | int | float | bool)}
            for key, value in arrays.items():
                array = _array(_kept(value), file, key)
                w = array[None] if array.ndim == 1 else array.reshape(-1, array.shape[-1])
                if array.ndim == 3 and len(array) > 1:  # ReStyle: one for each step
                    w = array[-1]
                _check(w, rows, width, f"{file.name} [{key}]")
                yield Latent(PurePosixPath(key).stem, _one(w), uri, file.sha256)
            if not arrays:
                raise DataError(f"{uri}: no latents in it, it holds {brief(tree)}")
            return
        tree = tree[known]
    if isinstance(tree, list | tuple) and tree:
        tree = np.concatenate([_batch(_array(_kept(each), file, "an entry"), rows) for each in tree])
    batch = _batch(_array(tree, file, "its array"), rows)
    own = _own_name(uri)
    for k, w in enumerate(batch):
        _check(w, rows, width, file.name)
        yield Latent(own if len(batch) == 1 else f"{own}-{k:05d}", _one(w), uri, file.sha256)


def _kept(value: Any) -> Any:
    """The latent among what a program keeps of one image: rosinality's projector has the image and its noise beside it, ReStyle
    the latents of all steps, of which the last counts."""
    if isinstance(value, Mapping):
        value = next((value[key] for key in KEYS if key in value), value)
    return value[-1] if isinstance(value, list | tuple) and value else value


def _array(value: Any, file: DirectionFile, what: str) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or not value.size or value.ndim > 4:
        raise DataError(f"{file.name}: {what} is not a latent in W or W+ but {brief(value)}")
    return value.astype(np.float32)


def _batch(array: np.ndarray, rows: int) -> np.ndarray:
    """[N, 1 or L, D] of [D], [N, D], [L, D], [N, L, D] and these with leading ones."""
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 1:
        return array[None, None]
    if array.ndim == 2:
        return array[None] if len(array) == rows else array[:, None]
    return array if array.ndim == 3 else array.reshape(-1, *array.shape[-2:])


def _check(w: np.ndarray, rows: int, width: int, what: str) -> None:
    if w.shape[1] != width or len(w) not in (1, rows):
        resolution = 2 ** (len(w) // 2 + 1)
        raise DataError(
            f"{what}: a latent of {len(w)} rows of {w.shape[1]}, and the generator takes {rows} rows of {width} (or one, of W): "
            f"it belongs to another generator, with {len(w)} rows to one of {resolution}x{resolution} pixels"
        )


def _one(w: np.ndarray) -> np.ndarray:
    """[1, D] where all rows are equal: a latent of W."""
    return w[:1] if (w == w[0]).all() else w


def _own_name(uri: str) -> str:
    path = PurePosixPath(uri.replace("\\", "/"))
    stem, folder = path.stem, path.parent.name
    return folder if folder and folder not in (".", "..") and names_no_image(stem) else stem
