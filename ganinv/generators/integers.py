"""Tensors in a file as integers and their steps: a byte a number, float32 in memory."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ganinv.errors import WeightsRefused
from ganinv.generators.formats.parts import TensorPart, load_leaf
from ganinv.reading.tensors import StoredTensor

INT8, STEP = "int8", "step"
"""Last parts of the two names in a file."""


def as_integers(name: str, value: Tensor, dims: tuple[int, ...]) -> dict[str, Tensor]:
    """Both tensors by name. Numbers along ``dims`` share a step; each is rounded by at most half of it."""
    step = value.abs().amax(dims, keepdim=True) / 127
    whole = (value / step.where(step > 0, 1.0)).round().clamp(-127, 127)
    return {f"{name}.{INT8}": whole.to(torch.int8).contiguous(), f"{name}.{STEP}": step.contiguous()}


def stored_parts(tensors: Mapping[str, StoredTensor]) -> dict[str, TensorPart]:
    """The tensors of a file by the names of ours, those of integers and steps as one.

    Raises:
        WeightsRefused: integers without steps, of another type, or steps of another shape than one for each row.
    """
    parts = {}
    for name, tensor in tensors.items():
        base = name.removesuffix(f".{INT8}")
        if base != name:
            parts[base] = _integer_part(base, tensor, tensors.get(f"{base}.{STEP}"))
        elif f"{name.removesuffix(f'.{STEP}')}.{INT8}" not in tensors:
            parts[name] = TensorPart(name, tensor)
    return parts


def _integer_part(name: str, whole: StoredTensor, step: StoredTensor | None) -> TensorPart:
    expected = (*whole.shape[:1], *(1 for _ in whole.shape[1:]))
    if step is None or step.shape != expected or whole.dtype != torch.int8:
        found = "no steps" if step is None else f"{whole.dtype} and steps of shape {step.shape}"
        raise WeightsRefused(f"{name}.{INT8} must be int8 with {name}.{STEP} of shape {expected}, found {found}")

    def multiply(_: object, own: Tensor) -> None:
        own.copy_(whole.load()).mul_(load_leaf(step, f"{name}.{STEP}").float())

    return TensorPart(name, whole, fill=multiply)
