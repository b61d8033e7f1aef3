"""What a file's tree holds, checked: arrays of finite numbers, vectors, ranges of rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from ganinv.directions.exchange.direction_files import DirectionFile
from ganinv.errors import DataError

MAX_DEPTH = 20
"""Containers inside containers; a pickled list may even hold itself."""


def plain(tree: Any, file: DirectionFile, depth: int = 0) -> Any:
    """Tensors as arrays: NumPy has no bfloat16, so half floats of either kind become float32."""
    if depth > MAX_DEPTH:
        raise DataError(f"{file.name}: containers inside containers, more than {MAX_DEPTH} deep: no file of directions")
    if isinstance(tree, Tensor):
        tensor = tree.detach()
        return tensor.numpy() if str(tensor.dtype) in _NUMPY else tensor.float().numpy()
    if isinstance(tree, Mapping):
        return {key: plain(value, file, depth + 1) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [plain(value, file, depth + 1) for value in tree]
    return tree


_NUMPY = {
    f"torch.{name}" for name in ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
}


def numbers(array: Any, file: DirectionFile, what: str) -> np.ndarray:
    """Floats that are finite."""
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or not array.size:
        raise DataError(f"{file.name}: {what} must be an array of floating-point numbers, it is {brief(array)}")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise DataError(f"{file.name}: {what} holds {bad} values that are not finite (NaN or infinity)")
    return array


def all_vectors(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(is_vector(v) for v in value)


def is_vector(value: Any) -> bool:
    """One vector, or rows of them, with leading dimensions of 1."""
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size > 1 and value.squeeze().ndim <= 2


def same_length(value: Any, std: np.ndarray) -> bool:
    return isinstance(value, np.ndarray) and value.size == std.size and value.dtype.kind == "f"


def is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def row_range(value: Any, file: DirectionFile) -> tuple[int, int] | None:
    """Rows as a list of numbers, or as text ("0-3", "2,3,4"), to [start, end)."""
    if value is None:
        return None
    if isinstance(value, np.ndarray):
        value = value.reshape(-1).tolist()
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d{1,3})\s*-\s*(\d{1,3})\s*|\s*\d{1,3}\s*(,\s*\d{1,3}\s*)*", value)
        if found and found[1]:
            value = list(range(int(found[1]), int(found[2]) + 1))
        elif found:
            value = [int(part) for part in value.split(",")]
    if not isinstance(value, list | tuple) or not value or not all(isinstance(v, int) for v in value):
        raise DataError(
            f"{file.name}: its rows of W+ must be numbers, they are {brief(value)}; state the layers yourself"
        )
    rows = sorted(set(value))
    if rows != list(range(rows[0], rows[0] + len(rows))):
        raise DataError(f"{file.name}: its rows of W+ {rows} are not a range; state the layers yourself")
    return rows[0], rows[-1] + 1


def brief(tree: Any) -> str:
    """What something is, in few words."""
    if isinstance(tree, np.ndarray):
        return f"an array of shape {list(tree.shape)} and type {tree.dtype}"
    if isinstance(tree, Mapping):
        return f"a dictionary of {', '.join(map(str, list(tree)[:6]))[:100]}" + (", ..." if len(tree) > 6 else "")
    if isinstance(tree, list | tuple):
        return f"a list of {len(tree)}"
    return f"{tree!r:.60}" if is_scalar(tree) else f"a {type(tree).__name__}"
