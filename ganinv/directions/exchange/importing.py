"""Published directions as :class:`Direction`: shapes, equal rows, norms, and the generator that the user states."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ganinv.directions.direction import UNVERIFIED, Direction, Dtype, Mode, Space
from ganinv.directions.exchange.declared import DeclaredGenerator
from ganinv.directions.exchange.direction_files import DirectionFile, read_direction_file
from ganinv.directions.exchange.layouts import PublishedDirection, find_entries
from ganinv.errors import ConfigError, DataError

_FORBIDDEN = re.compile(r"[^A-Za-z0-9._-]+")


def import_directions(
    uri: str,
    generator: DeclaredGenerator,
    *,
    space: Space | None = None,
    select: Sequence[str] = (),
    name: str | None = None,
    layers: tuple[int, int] | None = None,
    mode: Mode | None = None,
    positive_means: str = "",
    sha256: str | None = None,
) -> list[Direction]:
    """The directions in a published file: NumPy, ``torch.save`` or a pickle of any layout in the field. Nothing in it runs.

    A vector keeps the norm and the precision it came with, and one step is that vector: published strengths keep their
    meaning. GANSpace components take their standard deviation as unit. Rows of W+ that are all equal become one vector.

    Args:
        uri: local path or any fsspec URL.
        generator: that the directions belong to, as the user states it.
        space: of the vectors. Must be said of a single vector, whose file cannot tell Z from W.
        select: of a file with several directions, those that are wanted: component numbers, keys, or for statistics of
            S channels such as ``6:501``. All by default.
        name: of the direction; the file's (or the component's, ``pca-07``) by default. Of several, what their names
            begin with.
        layers: W+ rows [start, end) that they move; what the file says, or all, by default.
        mode: ``relative`` by default, ``absolute`` for GANSpace components. See ``Direction``.
        positive_means: what a positive strength does. Published signs are not standardised.
        sha256: refuse the file if its hash is another.

    Raises:
        WeightsRefused: the file is damaged, malicious or of another kind.
        DataError: no direction in it, values that are not finite, or a shape that is not for this generator.
        ConfigError: ``select``, ``space`` or ``mode`` do not go with the file.
    """
    file = read_direction_file(uri, sha256=sha256)
    entries = find_entries(file, select, generator)
    given = {"layers": layers, "mode": mode, "positive_means": positive_means}
    return [_direction(file, e, generator, space, _name(file, e, name, len(entries)), given) for e in entries]


def _direction(
    file: DirectionFile,
    entry: PublishedDirection,
    generator: DeclaredGenerator,
    space: Space | None,
    name: str,
    given: dict[str, Any],
) -> Direction:
    layers = given["layers"] or entry.layers
    if space is not None and entry.space is not None and space.rstrip("+") != entry.space:
        raise ConfigError(f"{file.name} holds directions in {entry.space!r} ({entry.layout}), not in {space!r}")
    space = space or entry.space
    what = f"{file.name}{f' [{entry.key}]' if entry.key else ''}"
    if layers is not None and not 0 <= layers[0] < layers[1] <= generator.num_ws:
        raise DataError(f"{what}: rows [{layers[0]}, {layers[1]}) are stated, but {generator} has no such rows")
    style_layers: tuple[tuple[str, int], ...] | None = None
    if space == "s":
        vector, style_layers = _in_s(entry.array, generator, what)
    elif not isinstance(entry.array, np.ndarray):
        raise ConfigError(f"{what} has one array per layer: it lives in 's', not in {space!r}")
    else:
        vector = _in_rows(entry.array, generator, space, layers, what)
    source = _source(file, entry, vector)
    if vector.ndim == 2 and (vector == vector[0]).all():
        source["equal_rows"] = len(vector)
        vector, space = vector[0], space or "w"
    elif vector.ndim == 2:
        space = "w+"
        vector = vector[slice(*layers)] if layers and len(vector) != layers[1] - layers[0] else vector
    if space is None:
        raise ConfigError(
            f"{what} is one vector of {vector.size}: the file cannot say whether it lives in z or w; state space"
        )
    dtype: Dtype = "float64" if vector.dtype == np.float64 else "float32"
    return Direction(
        name=name,
        vector=vector,
        space=space,
        generator_name=generator.name,
        generator_fingerprint=generator.fingerprint,
        method=f"imported-{entry.layout.replace(' ', '-')}",
        layers=layers if space in ("w", "w+") else None,
        unit=entry.unit,
        mode=given["mode"] or entry.mode,
        positive_means=given["positive_means"],
        mean=entry.mean,
        style_layers=style_layers,
        generator_resolution=generator.resolution if space in ("w", "w+") else None,
        dtype=dtype,
        report={**entry.report, "source": source, "generator_verified": generator.fingerprint != UNVERIFIED},
    )


def _in_rows(
    array: np.ndarray, generator: DeclaredGenerator, space: Space | None, layers: tuple[int, int] | None, what: str
) -> np.ndarray:
    """[D] or [L, D] of an array of any published shape."""
    width, rows = (generator.z_dim if space == "z" else generator.w_dim), generator.num_ws
    flat = array.squeeze()
    if flat.ndim == 1 and flat.size == width:
        return flat
    moved = layers[1] - layers[0] if layers else rows
    if flat.ndim == 1 and space != "z" and flat.size in (rows * width, moved * width):
        flat = flat.reshape(-1, width)  # InterFaceGAN on flattened W+: norm 1 over all rows
    if flat.ndim == 2 and space != "z" and flat.shape[1] == width:
        if len(flat) in (rows, moved):
            return flat
        raise DataError(
            f"{what}: {len(flat)} rows of {width}, but {generator} has {rows}: it belongs to a generator of another "
            "resolution, or the layers it moves must be stated"
        )
    raise DataError(
        f"{what}: shape {list(array.shape)} is not a direction in {space or 'W or W+'} of {generator}: expected [{width}], "
        f"[1, {width}]" + ("" if space == "z" else f", [{rows}, {width}], [1, {rows}, {width}] or [1, {rows * width}]")
    )


def _in_s(
    array: np.ndarray | tuple[np.ndarray, ...] | dict[str, np.ndarray], generator: DeclaredGenerator, what: str
) -> tuple[np.ndarray, tuple[tuple[str, int], ...]]:
    """(flat vector, layers) of one array per layer, or of all layers in one; layers that do not move are left out."""
    own = generator.style_layers
    if isinstance(array, dict):
        own = tuple(layer for layer in own if layer[0] in array)
        array = tuple(array[name] for name, _ in own) if len(own) == len(array) else tuple(array.values())
    if isinstance(array, tuple):
        widths = [len(a) for a in array]
        parts: Sequence[np.ndarray] = array
    else:
        flat = array.reshape(-1)
        own = next((c for c in (own, _without_rgb(own)) if sum(w for _, w in c) == flat.size), own)
        widths = [w for _, w in own]
        if sum(widths) != flat.size:
            raise DataError(
                f"{what}: {flat.size} styles; S of {generator} has {sum(widths)}, or "
                f"{sum(w for _, w in _without_rgb(own))} without toRGB"
            )
        parts = np.split(flat, np.cumsum(widths)[:-1])
    if widths != [w for _, w in own]:
        if len(widths) != len(own) or generator.fingerprint != UNVERIFIED:
            raise DataError(
                f"{what}: {len(widths)} layers of S of widths {widths}, but {generator} has {len(own)} of widths "
                f"{[w for _, w in own]}: it belongs to another generator"
            )
        own = tuple((name, width) for (name, _), width in zip(own, widths, strict=True))
    moving = [(layer, part) for layer, part in zip(own, parts, strict=True) if part.any()]
    if not moving:
        raise DataError(f"{what} is zero everywhere; a direction must point somewhere")
    return np.concatenate([part for _, part in moving]), tuple(layer for layer, _ in moving)


def _without_rgb(layers: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    return tuple(layer for layer in layers if not layer[0].startswith("torgbs"))


def _source(file: DirectionFile, entry: PublishedDirection, vector: np.ndarray) -> dict[str, Any]:
    """Where it came from and what it was, for the report."""
    arrays = [entry.array] if isinstance(entry.array, np.ndarray) else list(_each(entry.array))
    norms = np.linalg.norm(np.atleast_2d(vector).astype(np.float64), axis=1)
    return {
        "file": file.name,
        "sha256": file.sha256,
        "container": file.container,
        "layout": entry.layout,
        "key": entry.key,
        "shape": list(arrays[0].shape) if len(arrays) == 1 else [len(a) for a in arrays],
        "dtype": str(arrays[0].dtype),
        "norm": float(np.linalg.norm(norms)),
        "row_norm": [float(norms.min()), float(norms.max())],
    }


def _each(arrays: tuple[np.ndarray, ...] | dict[str, np.ndarray]) -> Iterable[np.ndarray]:
    return arrays.values() if isinstance(arrays, dict) else arrays


def _name(file: DirectionFile, entry: PublishedDirection, name: str | None, count: int) -> str:
    """A name that a store takes."""
    own = entry.name or file.stem
    chosen = own if name is None else name if count == 1 else f"{name}-{entry.key}"
    return _FORBIDDEN.sub("-", chosen).strip("-._") or "direction"
