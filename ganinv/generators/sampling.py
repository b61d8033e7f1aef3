"""Sampling latents: the z of an index is fixed, whatever the batch, the worker or the number of samples."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def sample_z(seed: int, indices: Sequence[int], z_dim: int) -> Tensor:
    """z ~ N(0, I) for sample numbers ``indices`` of the run ``seed``: [len(indices), z_dim], on the CPU."""
    rows = []
    for index in indices:
        key = hashlib.sha256(f"z/{seed}/{index}".encode()).digest()
        stream = torch.Generator().manual_seed(int.from_bytes(key[:8], "little") >> 1)
        rows.append(torch.randn(z_dim, generator=stream))
    return torch.stack(rows)


def sample_id(index: int) -> str:
    """The image id of sample number ``index``."""
    return f"sample-{index:09d}"


def sample_index(image_id: str) -> int:
    """The inverse of ``sample_id``."""
    return int(image_id.removeprefix("sample-"))
