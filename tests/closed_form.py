"""Closed-form weights of the golden data (shared/golden/README.md): networks too large to ship follow from a seed rule.

Every value is ``a + b * v`` with v in [-1, 1) from splitmix64 of the key's crc32 and the value's flat index.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CHUNK = 1 << 16  # values made at a time: the temporaries then stay in the processor's cache


def unit_values(salt: str, key: str, count: int) -> np.ndarray:
    """v_0 .. v_{count-1} of a key, float64 in [-1, 1)."""
    out = np.empty(count)
    _fill(out, salt, key, 0.0, 1.0)
    return out


def closed_form_tensor(salt: str, key: str, shape: list[int], a: float, b: float, dtype: str = "float32") -> Tensor:
    """One tensor by the rule; integers are all ``a``."""
    values: np.ndarray = np.empty(shape, dtype=dtype)
    if values.dtype.kind == "i":
        values[...] = int(a)
    else:
        _fill(values.reshape(-1), salt, key, a, b)
    return torch.from_numpy(values)


def closed_form_state(file: Path, keep: Callable[[str], bool] = lambda key: True) -> dict[str, Tensor]:
    """The state dict that a golden ``.json`` describes; aliased keys share one tensor.

    Args:
        keep: which keys to build (a part of a large network, such as ``encoder.*``).
    """
    meta = json.loads(file.read_text())
    beside = file.with_suffix(".npz")
    stored = np.load(beside, allow_pickle=False) if beside.is_file() else {}
    state: dict[str, Tensor] = {}
    for key, spec in meta["tensors"].items():
        if not keep(key):
            continue
        if "same_as" in spec:
            state[key] = state[spec["same_as"]]
        elif "stored" in spec:
            state[key] = torch.from_numpy(stored[spec["stored"]])
        else:
            state[key] = closed_form_tensor(meta["salt"], key, spec["shape"], spec["a"], spec["b"], spec["dtype"])
    return state


def closed_form_checkpoint(file: Path, keep: Callable[[str], bool] = lambda key: True) -> dict[str, Any]:
    """A checkpoint as the original project saves it: ``state_dict``, and ``latent_avg`` and ``opts`` where it has them."""
    meta = json.loads(file.read_text())
    tree: dict[str, Any] = {"state_dict": closed_form_state(file, keep)}
    if "checkpoint" in meta:
        *rows, width = meta["checkpoint"]["latent_avg"]["shape"]
        row = closed_form_tensor(meta["salt"], "latent_avg", [1, width], 0.0, 0.3)
        tree["latent_avg"] = row.repeat(rows[0], 1) if rows else row[0]
        tree["opts"] = dict(meta["checkpoint"]["opts"])
    if "file" in meta:
        tree["opts"] = dict(meta["file"]["opts"])
    return tree


def closed_form_parts(file: Path, keep: Callable[[str], bool] = lambda key: True) -> dict[str, dict[str, Tensor]]:
    """The networks of a file whose keys begin with a network's name (``encoder.X``, ``W+.X``): name -> state dict."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in closed_form_state(file, keep).items():
        name, _, rest = key.partition(".")
        parts.setdefault(name, {})[rest] = tensor
    return parts


def golden_input(file: Path, name: str, shape: list[int], a: float = 0.0, b: float = 0.8) -> Tensor:
    """A further array that follows from the salt of a golden ``.json``, such as the ``direction`` of an edit."""
    return closed_form_tensor(json.loads(file.read_text())["salt"], name, shape, a, b)


def golden_images(images_u8: np.ndarray) -> Tensor:
    """Golden uint8 images [N, H, W, 3] as a network reads them: float32 [N, 3, H, W] in [-1, 1]."""
    return ((torch.from_numpy(images_u8).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5).contiguous()


@torch.no_grad()
def fill(module: nn.Module, salt: str, name: str, but: Collection[int] = ()) -> None:
    """Every parameter by the rule, about as large as it was made: the nearest power of two. What was made as 0 is not.

    Args:
        but: ``id`` of parameters that stay.
    """
    for key, parameter in module.named_parameters():
        if id(parameter) in but:
            continue
        deviation = float(parameter.std(correction=0))
        spread = 3**0.5 * 2 ** round(math.log2(deviation)) if deviation > 1e-6 else 0.1
        centre = round(float(parameter.mean())) if deviation <= 1e-6 else 0
        parameter.copy_(closed_form_tensor(salt, f"{name}.{key}", list(parameter.shape), float(centre), spread))


def _fill(out: np.ndarray, salt: str, key: str, a: float, b: float) -> None:
    start = np.uint64(((zlib.crc32(f"{salt}:{key}".encode()) << 32) + 0x9E3779B97F4A7C15) % 2**64)
    for begin in range(0, out.size, CHUNK):
        size = min(CHUNK, out.size - begin)
        z = np.arange(begin, begin + size, dtype=np.uint64)
        z += start
        z ^= z >> np.uint64(30)
        z *= np.uint64(0xBF58476D1CE4E5B9)
        z ^= z >> np.uint64(27)
        z *= np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
        z >>= np.uint64(40)
        out[begin : begin + size] = a + b * (z * (2 / 2**24) - 1)
