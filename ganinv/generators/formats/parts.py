"""The vocabulary of the dialects: tensors of a file, where they go, and what was found out on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganinv.errors import WeightsRefused
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.discriminator import DiscriminatorConfig
from ganinv.reading.tensors import StoredArray, StoredTensor

Leaf = StoredTensor | StoredArray | Tensor | float | int
FIR_TAPS = (1.0, 3.0, 3.0, 1.0)
NOISE_SEED = 0
MAX_RESOLUTION = 4096


@dataclass(frozen=True)
class StateDict:
    """The tensors of one network under the names of its file.

    Attributes:
        attributes: module path -> plain attributes, where the file holds modules rather than a state dict.
        cls: the class name of the network in the file, if it says.
    """

    tensors: Mapping[str, Leaf]
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cls: str = ""

    def under(self, prefix: str) -> StateDict:
        """The part below ``prefix`` (with its dot), without it."""
        cut = len(prefix)
        tensors = {n[cut:]: t for n, t in self.tensors.items() if n.startswith(prefix)}
        attributes = {f"{n}."[cut:-1]: a for n, a in self.attributes.items() if f"{n}.".startswith(prefix)}
        return StateDict(tensors, attributes, self.cls)


@dataclass(frozen=True)
class TensorPart:
    """One of our tensors, as a function of one in the file.

    Attributes:
        key: its name in the file. leaf: None if the file lacks it.
        change: applied after reading, for dialects that store another number (a flip, an offset).
        changed_shape: what ``change`` makes of the shape, where it is another.
        fill: (leaf, own) in place of reading and ``change``, for tensors that are better read in pieces.
    """

    key: str
    leaf: Leaf | None
    change: Callable[[Tensor], Tensor] | None = None
    changed_shape: tuple[int, ...] | None = None
    fill: Callable[[Leaf | None, Tensor], None] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.changed_shape or shape_of(self.leaf)

    def load_into(self, own: Tensor) -> None:
        """Copy the values, which must be finite, into ``own`` (its shape is ours)."""
        leaf = self.leaf
        if self.fill is not None:
            self.fill(leaf, own)
        elif self.change is None and isinstance(leaf, StoredTensor) and leaf.reads_into(own):
            leaf.read_into(own)
        else:
            tensor = load_leaf(leaf, self.key)
            own.copy_((tensor if self.change is None else self.change(tensor)).reshape(own.shape))
        if not is_finite(own):
            raise WeightsRefused(f"tensor {self.key} holds values that are not finite (NaN or infinity)")

    def fits(self, shape: torch.Size) -> bool:
        """Whether the file's shape is ours, up to dimensions of length 1."""
        return [n for n in self.shape if n != 1] == [n for n in shape if n != 1]


@dataclass
class Description:
    """A network of a file: its shape, and where each of our tensors is.

    Attributes:
        layout: the dialect. parts: our name -> part.
        notes: what was assumed or computed, for the provenance.
    """

    layout: str
    config: GeneratorConfig | DiscriminatorConfig
    parts: dict[str, TensorPart]
    notes: dict[str, Any] = field(default_factory=dict)


class Names:
    """Reads a state while noting which of its names were used and which were looked for in vain."""

    def __init__(self, state: StateDict) -> None:
        self.state = state
        self.used: set[str] = set()
        self.missing: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self.state.tensors

    def part(
        self,
        key: str,
        change: Callable[[Tensor], Tensor] | None = None,
        axes: tuple[int, ...] | None = None,
    ) -> TensorPart:
        """``axes``: the order of dimensions to read it in (before ``change``)."""
        self.used.add(key)
        if key not in self.state.tensors:
            self.missing.append(key)
        leaf = self.state.tensors.get(key)
        if axes is None or len(shape := shape_of(leaf)) != len(axes):
            return TensorPart(key, leaf, change)
        after = change or (lambda t: t)
        return TensorPart(key, leaf, lambda t: after(t.permute(axes)), tuple(shape[a] for a in axes))

    def shape(self, *keys: str) -> tuple[int, ...]:
        """The shape of the first of ``keys`` that is there."""
        for key in keys:
            if key in self.state.tensors:
                return shape_of(self.state.tensors[key])
        raise WeightsRefused(f"missing keys {list(keys)[:1]}: without it the shape of the network is unknown")

    def size(self, dim: int, *keys: str) -> int:
        """One length of the first of ``keys`` that is there."""
        shape = self.shape(*keys)
        try:
            return shape[dim]
        except IndexError:
            raise WeightsRefused(f"tensor {keys[0]} has shape {shape}, which no StyleGAN2 has") from None

    def finish(self, ignore: Callable[[str], bool]) -> None:
        """Refuse what is missing, and what is left over and not to be ignored: it would be another network."""
        if self.missing:
            raise WeightsRefused(f"missing keys {some(self.missing)}: the file is incomplete or another network")
        left = [n for n in self.state.tensors if n not in self.used and not ignore(n)]
        if left:
            raise WeightsRefused(
                f"unexpected keys {some(left)}: a variant of StyleGAN2 that is not known here, refused rather than guessed"
            )


def shape_of(leaf: Leaf | None) -> tuple[int, ...]:
    return () if leaf is None or isinstance(leaf, int | float) else tuple(leaf.shape)


def load_leaf(leaf: Leaf | None, key: str) -> Tensor:
    """A tensor of the file in float32."""
    if leaf is None:
        raise WeightsRefused(f"missing keys {[key]}")
    if isinstance(leaf, int | float):
        return torch.tensor(float(leaf))
    raw = leaf if isinstance(leaf, Tensor) else leaf.load()
    if isinstance(raw, np.ndarray):
        if raw.dtype.kind != "f":
            raise WeightsRefused(f"tensor {key} has type {raw.dtype}, expected floating point")
        raw = torch.from_numpy(raw)
    if not raw.is_floating_point():
        raise WeightsRefused(f"tensor {key} has type {raw.dtype}, expected floating point")
    return raw.float()


def is_finite(tensor: Tensor) -> bool:
    """Without a mask of the tensor's size in the usual case: a finite sum has finite terms.

    numpy's sum, in one thread: torch's would wait for a processor that is hashing the file at the time.
    """
    with np.errstate(all="ignore"):
        total = float(tensor.detach().cpu().numpy().sum())
    return math.isfinite(total) or bool(torch.isfinite(tensor).all())


def check_fir(names: Names, keys: Iterable[str], total: float) -> None:
    """Every filter of the file must be [1, 3, 3, 1]: no other is built here.

    Args:
        total: the sum that the dialect stores it with (4 where it includes the gain of upsampling).
    """
    taps = torch.tensor(FIR_TAPS)
    want = torch.outer(taps, taps) / taps.sum() ** 2 * total
    for key in keys:
        names.used.add(key)
        leaf = names.state.tensors[key]
        right = math.prod(shape_of(leaf)) in (4, 16)
        kernel = load_leaf(leaf, key).squeeze() if right else want * 0
        kernel = torch.outer(kernel, kernel) if kernel.ndim == 1 else kernel
        if kernel.shape != want.shape or not torch.allclose(kernel, want, atol=1e-4):
            raise WeightsRefused(
                f"filter {key} of shape {shape_of(leaf)} is not [1, 3, 3, 1] with sum {total:g}, the only one built here"
            )


def check_square(names: Names, key: str, levels: int) -> None:
    """Refuse a generator by the constant that it begins with, [.., C, h, w], where that is not 4x4: its images are not square, or
    it has another number of layers than its resolution."""
    if key not in names:
        return
    shape = names.shape(key)
    if len(shape) < 3:
        return
    height, width = shape[-2:]
    if (height, width) == (4, 4):
        return
    scale = 2 ** (levels - 1)
    size = f"{height * scale}x{width * scale}"
    if height != width:
        raise WeightsRefused(
            f"a generator of images that are not square: it begins at {height}x{width} ({key}) and makes {size} (height x "
            "width). Only square ones, which begin at 4x4, are built here"
        )
    raise WeightsRefused(
        f"a generator that begins at {height}x{width} ({key}) and makes {size}: only 4x4 is built here"
    )


def resolution_of(levels: int) -> int:
    """4, 8, ... for 1, 2, ... levels."""
    resolution = 4 * 2 ** (levels - 1)
    if not 4 <= resolution <= MAX_RESOLUTION:
        raise WeightsRefused(f"a network of resolution {resolution}; 4 to {MAX_RESOLUTION} are read")
    return resolution


def some(names: list[str], count: int = 12) -> str:
    """Names in an error message: the first few, none of them long."""
    shown = [n[:100] for n in names[:count]]
    return f"{shown}" + (f" and {len(names) - count} more" if len(names) > count else "")
