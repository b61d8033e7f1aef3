"""What a ``Code`` can hold beside ``w``: the parts its extras are made of. Pure data, and the arithmetic of each.

Every tensor has a leading batch dimension of B, or of 1 when the batch shares it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class LowRank:
    """A per-sample weight offset ``left @ right``, reshaped to the weight it belongs to.

    Args:
        left: [B, O, r]. right: [B, r, I*k*k].
    """

    left: Tensor
    right: Tensor

    def dense(self, shape: Sequence[int]) -> Tensor:
        """The offset as [B, *shape]."""
        return (self.left @ self.right).reshape(-1, *shape)


class Head(Protocol):
    """The last layers of a hypernetwork: affine, the same for every image."""

    def __call__(self, code: Tensor, passes: Tensor) -> Tensor:
        """Codes [B, D] summed over ``passes`` [B] refinement steps to the sum of their offsets [B, O, I, k, k]."""


@dataclass(frozen=True)
class HeadCode:
    """A weight offset as the vector that a hypernetwork's affine head turns into it.

    HyperStyle (Alaluf et al. 2022) adds up the offsets of T passes. Its heads are affine, so the sum is the head of the
    summed vectors with T times its bias: 512 numbers instead of 512*512*9, without loss.

    Args:
        code: [B, D], the vectors before the head, summed over the passes.
        passes: [B], how many passes were summed.
        head: see ``ganinv.networks.weight_heads``. None in a code that was read from a store: ``Code.with_heads``.
    """

    code: Tensor
    passes: Tensor
    head: Head | None = None

    def dense(self, shape: Sequence[int]) -> Tensor:
        """The offset as [B, *shape]."""
        if self.head is None:
            raise ValueError(
                "this weight offset is a hypernetwork's code and its head is not here: give the heads that made it, "
                "code.with_heads({name: head})"
            )
        offset = self.head(self.code, self.passes)
        if offset.shape[1:] != torch.Size(shape):
            raise ValueError(f"the head gives offsets of shape {list(offset.shape[1:])}, expected {list(shape)}")
        return offset


Delta = Tensor | LowRank | HeadCode


def dense(delta: Delta, shape: Sequence[int]) -> Tensor:
    """A weight offset in any of its forms as [B or 1, *shape]."""
    return delta if isinstance(delta, Tensor) else delta.dense(shape)


@dataclass(frozen=True)
class Masked:
    """A value that applies where ``mask`` is 1.

    Args:
        value: [B or 1, ...].
        mask: floats in [0, 1] that broadcast to the value, such as [B or 1, 1, r, r]; None is 1 everywhere.
    """

    value: Tensor
    mask: Tensor | None = None

    def over(self, x: Tensor) -> Tensor:
        """``x`` with the value in its place: ``x * (1 - mask) + value * mask``."""
        value = self.value.to(x.dtype)
        if self.mask is None:
            return value.expand(
                np.broadcast_shapes(value.shape, x.shape)
            )  # torch's own imports sympy, for half a second
        mask = self.mask.to(x.dtype)
        return x * (1 - mask) + value * mask

    def added_to(self, x: Tensor) -> Tensor:
        """``x + mask * value``."""
        value = self.value.to(x.dtype)
        return x + (value if self.mask is None else self.mask.to(x.dtype) * value)


def masked(value: Tensor | Masked) -> Masked:
    """As ``Masked``; a bare tensor applies everywhere."""
    return Masked(value) if isinstance(value, Tensor) else value


@dataclass(frozen=True)
class Feature:
    """What is done to the features [B, C, r, r] at one site, in this order.

    Args:
        film: (scale, shift), each [B or 1, C, r or 1, r or 1]: ``x * (1 + scale) + shift`` (HFGI, Wang et al. 2022).
        add: ``x + mask * value`` (SAM inversion, Parmar et al. 2022).
        replace: ``x * (1 - mask) + value * mask``.
        image: at ``block`` sites only: the same replacement for the sum of the toRGB outputs so far, [B or 1, 3, r, r].
            Without it the image below keeps what this pass gave it.
    """

    film: tuple[Tensor, Tensor] | None = None
    add: Tensor | Masked | None = None
    replace: Tensor | Masked | None = None
    image: Tensor | Masked | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self.film is not None:
            scale, shift = self.film
            x = x * (1 + scale.to(x.dtype)) + shift.to(x.dtype)
        if self.add is not None:
            x = masked(self.add).added_to(x)
        if self.replace is not None:
            x = masked(self.replace).over(x)
        return x


def map_tensors(value: Any, fn: Callable[[Tensor], Tensor]) -> Any:
    """``value`` with ``fn`` applied to every tensor in it; heads are shared and stay."""
    if value is None:  # most extras of most codes; to ask whether it is a mapping takes longer than all else here
        return None
    if isinstance(value, Tensor):
        return fn(value)
    if isinstance(value, Mapping):
        return {key: map_tensors(v, fn) for key, v in value.items()}
    if isinstance(value, tuple):
        return tuple(map_tensors(v, fn) for v in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: map_tensors(getattr(value, f.name), fn) for f in fields(value)})
    return value
