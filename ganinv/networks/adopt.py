"""Load tensors of a published checkpoint under our parameter names. Each is checked, and none is copied."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ganinv.errors import WeightsRefused
from ganinv.generators.formats.parts import is_finite
from ganinv.reading.checkpoint import open_checkpoint
from ganinv.reading.tensors import StoredTensor

Lazy = Tensor | StoredTensor
"""A tensor, or one that has not been read from its file yet."""

Rules = list[tuple[str, str]]
"""(pattern of our parameter name, published name): the first pattern that matches the start of a name rewrites it."""

M = TypeVar("M", bound=nn.Module)

_COUNTER = "num_batches_tracked"  # torch counts batches in it, nothing reads it, and old files lack it


def from_file(source: str | Mapping[str, Lazy], what: str, adopted: Callable[[Any, str], M]) -> M:
    """The network in a published file. Nothing in the file runs.

    Args:
        source: path or fsspec URL of the file, or the content of such a file.
        what: name for messages if ``source`` is not a file.
        adopted: (content of the file, its name) -> the network. Tensors of a file can be read only within this call.
    """
    if isinstance(source, str):
        with open_checkpoint(source) as checkpoint:
            return adopted(checkpoint.tree, source)
    return adopted(source, what)


def adopt(module: M, tensors: Mapping[str, Lazy], rules: Rules, where: str, ignore: Sequence[str] = ()) -> M:
    """Fill ``module`` (usually built on the meta device) with published tensors, and return it frozen, in eval mode.

    Args:
        tensors: by their published names. They become the module's own. Tensors that are float32 in memory are not copied;
            tensors in a file are read one by one.
        where: names the file and the part in messages.
        ignore: published names that may be there and are not used.

    Raises:
        WeightsRefused: tensors are missing or unexpected, have another shape, or have values that are not finite. Every message
            gives the published names.
    """
    own = module.state_dict()
    published = {name: published_name(name, rules) for name in own}
    used = set(published.values())
    missing = sorted(p for p in used - tensors.keys() if not p.endswith(_COUNTER))
    unexpected = sorted(p for p in tensors.keys() - used - set(ignore) if not p.endswith(_COUNTER))
    if missing or unexpected:
        raise WeightsRefused(f"{where} is not whole or not of this kind: {_listed(missing, unexpected)}")
    weights = {name: key for name, key in published.items() if not name.endswith(_COUNTER)}
    for name, key in weights.items():  # all shapes before any values: reading those takes its time
        if tuple(tensors[key].shape) != tuple(own[name].shape):
            raise WeightsRefused(
                f"{where}: {key} has shape {tuple(tensors[key].shape)}, expected {tuple(own[name].shape)}"
            )
    state = {name: torch.zeros((), dtype=torch.long) for name in own.keys() - weights.keys()}
    state |= {name: finite(loaded(tensors[key]), f"{where}: {key}") for name, key in weights.items()}
    module.load_state_dict(state, assign=True)
    return module.eval().requires_grad_(False)


def adopt_new(
    build: Callable[[], M], tensors: Mapping[str, Lazy], rules: Rules, where: str, ignore: Sequence[str] = ()
) -> M:
    """``adopt`` for a network that ``build`` makes, without allocating memory for weights that will be replaced."""
    with torch.device("meta"):
        network = build()
    return adopt(network, tensors, rules, where, ignore)


def published_name(name: str, rules: Rules) -> str:
    """The name that the published file has for our parameter."""
    for pattern, replacement in rules:
        renamed, hits = re.subn(f"^{pattern}", replacement, name)
        if hits:
            return renamed
    return name


def loaded(tensor: Lazy) -> Tensor:
    """The values in float32, in memory."""
    values = tensor.load() if isinstance(tensor, StoredTensor) else tensor.detach()
    return values.to(torch.float32)


def finite(tensor: Tensor, where: str) -> Tensor:
    """The tensor itself; refused if it holds NaN or infinity."""
    if not is_finite(tensor):
        raise WeightsRefused(f"{where} holds values that are not finite (NaN or infinity); take an undamaged file")
    return tensor


def _listed(missing: list[str], unexpected: list[str]) -> str:
    def some(names: list[str]) -> str:
        return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

    parts = [f"{what} {some(names)}" for what, names in (("missing", missing), ("unexpected", unexpected)) if names]
    return "; ".join(parts)
