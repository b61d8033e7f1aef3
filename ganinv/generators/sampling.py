"""Sampling latents: the z of an index is fixed, whatever the batch, the worker or the number of samples."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from ganinv.errors import ConfigError


def sample_z(seed: int, indices: Sequence[int], z_dim: int) -> Tensor:
    """z ~ N(0, I) for sample numbers ``indices`` of the run ``seed``: [len(indices), z_dim], on the CPU."""
    rows = []
    for index in indices:
        key = hashlib.sha256(f"z/{seed}/{index}".encode()).digest()
        stream = torch.Generator().manual_seed(int.from_bytes(key[:8], "little") >> 1)
        rows.append(torch.randn(z_dim, generator=stream))
    return torch.stack(rows)


def class_vectors(c_dim: int, indices: Sequence[int], classes: Sequence[int] = ()) -> Tensor | None:
    """One-hot class vectors [N, c_dim] of samples: ``classes`` in turn by sample number, all of them by default. None for a
    generator without classes (``c_dim`` 0).

    Raises:
        ConfigError: a class that is not one, or any for a generator without.
    """
    check_classes(c_dim, classes)
    if not c_dim:
        return None
    chosen = classes or range(c_dim)
    return torch.eye(c_dim)[[chosen[index % len(chosen)] for index in indices]]


def check_classes(c_dim: int, classes: Sequence[int]) -> None:
    """Raises ConfigError for classes that a generator does not have."""
    if classes and not c_dim:
        raise ConfigError("this generator is not conditional: it has no classes to choose from; omit --class")
    if wrong := sorted({k for k in classes if not 0 <= k < c_dim}):
        raise ConfigError(f"there is no class {wrong[0]}: this generator has {c_dim}, numbered 0 to {c_dim - 1}")


def sample_id(index: int) -> str:
    """The image id of sample number ``index``."""
    return f"sample-{index:09d}"


def sample_index(image_id: str) -> int:
    """The inverse of ``sample_id``."""
    return int(image_id.removeprefix("sample-"))
