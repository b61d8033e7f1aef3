"""Directions in the formats of published code, so that other repositories read them. What those cannot hold, a unit, a range
of rows, the generator, is in the store alone."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal, get_args

import fsspec
import numpy as np
import torch

from ganinv.directions.direction import Direction
from ganinv.errors import ConfigError, DataError, StoreError

Form = Literal["vector", "row", "rows", "batch", "flat"]
"""[D]; [1, D] (InterFaceGAN, e4e); [L, D]; [1, L, D]; [1, L * D] (W+ fitted flat)."""

_SUFFIXES = ("npy", "npz", "pt")


def export_direction(
    direction: Direction, uri: str, *, form: Form = "row", num_ws: int | None = None
) -> tuple[int, ...]:
    """Write one direction as ``.npy``, ``.pt`` or ``.npz`` (key ``direction``), by the URL's suffix; the array's shape.

    The vector is written as it is: in code that adds ``strength * vector``, a strength counts distances of the vector's
    norm, so multiply by the direction's ``unit``. A direction in S is a ``.npz`` or ``.pt`` of one array per layer.

    Args:
        form: shape of the array. A direction with one vector per row has no ``vector`` or ``row``.
        num_ws: rows of W+, for a single vector in ``rows``, ``batch`` or ``flat``; what the generator has, if it is known.

    Raises:
        ConfigError: the form does not go with the direction, or the suffix is unknown.
        StoreError: the file cannot be written.
    """
    suffix = _suffix(uri)
    if direction.style_layers is not None:
        if suffix == "npy":
            raise ConfigError(f"direction {direction.name!r} in S has one array per layer: write .npz or .pt")
        widths = [channels for _, channels in direction.style_layers]
        parts = np.split(direction.vector, np.cumsum(widths)[:-1])
        _write(uri, suffix, {name: part for (name, _), part in zip(direction.style_layers, parts, strict=True)})
        return direction.vector.shape
    array = shaped(direction, form, num_ws)
    _write(uri, suffix, {"direction": array} if suffix == "npz" else array)
    return array.shape


def export_directions(directions: Sequence[Direction], uri: str) -> list[str]:
    """Write several directions as one ``.npz`` or ``.pt``: its keys.

    Components of one PCA become GANSpace's layout: ``.npz`` as the official code writes it (``lat_comp``, ``lat_mean``,
    ``lat_stdev``, ...), ``.pt`` as the e4e family reads it (``comp``, ``mean``, ``std``). Other directions become a
    dictionary of name to [1, D].

    Raises:
        ConfigError: fewer than one, names that repeat, directions of different lengths, or an unknown suffix.
        StoreError: the file cannot be written.
    """
    suffix = _suffix(uri)
    if suffix == "npy":
        raise ConfigError(f"{uri}: a .npy holds one array; write several directions as .npz or .pt")
    if not directions or len({d.name for d in directions}) != len(directions):
        raise ConfigError(f"expected directions with names of their own, got {[d.name for d in directions]}")
    arrays = _basis(directions, suffix)
    if arrays is None:
        arrays = {d.name: shaped(d, "row", None) for d in directions}
        if len({a.shape for a in arrays.values()}) > 1:
            raise ConfigError("directions of different lengths belong to different generators; write them one by one")
    _write(uri, suffix, arrays)
    return list(arrays)


def shaped(direction: Direction, form: Form, num_ws: int | None) -> np.ndarray:
    """The direction's vector in one of the published shapes; see ``export_direction``."""
    if form not in get_args(Form):
        raise ConfigError(f"unknown form {form!r}; there are: {', '.join(get_args(Form))}")
    vector = direction.vector
    if form in ("vector", "row"):
        if vector.ndim == 2:
            raise ConfigError(
                f"direction {direction.name!r} has {len(vector)} rows that differ: export it as rows, batch or flat"
            )
        return vector if form == "vector" else vector[None]
    rows = _all_rows(direction, num_ws)
    return {"rows": rows, "batch": rows[None], "flat": rows.reshape(1, -1)}[form]


def _all_rows(direction: Direction, num_ws: int | None) -> np.ndarray:
    """[L, D]; rows that a per-row direction does not move are zero."""
    vector = direction.vector
    if direction.space == "z":
        raise ConfigError(f"direction {direction.name!r} lives in z, which has no rows: export it as vector or row")
    if num_ws is None and vector.ndim == 2 and direction.layers is None:
        num_ws = len(vector)
    num_ws = num_ws or direction.num_ws
    if num_ws is None:
        raise ConfigError(
            f"direction {direction.name!r} has one vector for any number of rows: state how many to write"
        )
    if vector.ndim == 1:
        return np.tile(
            vector, (num_ws, 1)
        )  # as published: the range of rows is the business of the code that applies it
    start, end = direction.layers or (0, len(vector))
    if end > num_ws:
        raise ConfigError(f"direction {direction.name!r} moves rows up to {end - 1}; {num_ws} rows are too few")
    rows = np.zeros((num_ws, vector.shape[1]), vector.dtype)
    rows[start:end] = vector
    return rows


def _basis(directions: Sequence[Direction], suffix: str) -> dict[str, np.ndarray] | None:
    """Components of one PCA in GANSpace's layouts, by their number; None when they are not that."""
    numbers = [d.report.get("component") for d in directions]
    mean = directions[0].mean
    if mean is None or not all(
        isinstance(n, int) and d.mean is not None for n, d in zip(numbers, directions, strict=True)
    ):
        return None
    if sorted(numbers) != list(range(len(directions))) or any(not np.array_equal(d.mean, mean) for d in directions):  # type: ignore[arg-type,type-var]
        raise ConfigError(
            f"GANSpace's files hold components 0 .. C-1 of one PCA, got numbers {sorted(map(str, numbers))}; give all of one fit"
        )
    ordered = sorted(directions, key=lambda d: d.report["component"])
    comp = np.stack([d.vector for d in ordered])[:, None]
    std = np.array([d.unit for d in ordered], np.float32)
    if suffix == "pt":
        return {"mean": mean[None], "comp": comp, "std": std}
    if any(d.report.get("act_is_lat") is False for d in ordered):
        raise DataError("these components were found in activations, whose own basis is not kept: export them as .pt")
    out = {
        "act_comp": comp,
        "act_mean": mean[None],
        "act_stdev": _reported(ordered, "act_stdev", std),
        "lat_comp": comp,
        "lat_mean": mean[None],
        "lat_stdev": std,
        "var_ratio": _reported(ordered, "var_ratio", _reported(ordered, "variance_ratio", None)),
        "random_stdevs": _reported(ordered, "random_stdevs", None),
    }
    return {key: value for key, value in out.items() if value is not None}


def _reported(directions: Sequence[Direction], key: str, other: np.ndarray | None) -> np.ndarray | None:
    values = [d.report.get(key) for d in directions]
    return other if any(v is None for v in values) else np.array(values, np.float32)


def _suffix(uri: str) -> str:
    suffix = uri.rpartition(".")[2].lower()
    if suffix not in _SUFFIXES:
        raise ConfigError(f"{uri}: expected a file name that ends in {', '.join(f'.{s}' for s in _SUFFIXES)}")
    return suffix


def _write(uri: str, suffix: str, value: Any) -> None:
    sink = io.BytesIO()
    if suffix == "npy":
        np.save(sink, value, allow_pickle=False)
    elif suffix == "npz":
        np.savez_compressed(sink, **value)
    else:
        tensor = {k: torch.tensor(v) for k, v in value.items()} if isinstance(value, dict) else torch.tensor(value)
        torch.save(tensor, sink)
    try:
        with fsspec.open(uri, "wb") as file:
            file.write(sink.getvalue())
    except Exception as error:  # every file system has errors of its own
        raise StoreError(f"{uri} cannot be written: {type(error).__name__}: {error}") from error
