"""Joining extras of several codes into one batch. A code that lacks an extra gets one that changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ganinv.codes.parts import Delta, Feature, HeadCode, LowRank, Masked, dense, masked
from ganinv.codes.segments import Segments

T = TypeVar("T")
K = TypeVar("K", bound=int | str)
Sizes = Sequence[int]


def join_maps(
    join: Callable[[Sequence[T | None], Sizes], T | None], maps: Sequence[Mapping[K, T] | None], sizes: Sizes, what: str
) -> dict[K, T] | None:
    """Join mappings entry by entry with ``join``; None when all of them are empty.

    Raises:
        ValueError: tensors of one entry do not fit each other.
    """
    names = sorted({name for part in maps for name in part or ()})
    out: dict[K, T] = {}
    for name in names:
        with naming(f"{what}[{name!r}]"):
            joined = join([part.get(name) if part else None for part in maps], sizes)
        if joined is not None:
            out[name] = joined
    return out or None


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Errors inside become a ValueError that names what could not be joined."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"codes of different shapes cannot be joined: {what}: {error}") from error


def join_offsets(values: Sequence[Tensor | None], sizes: Sizes) -> Tensor | None:
    """Tensors that are added somewhere: the missing ones are zero."""
    if all(v is None for v in values):
        return None
    return _stack(values, sizes, fill=0.0)


def join_masked(values: Sequence[Tensor | Masked | None], sizes: Sizes) -> Tensor | Masked | None:
    """Replacements: the missing ones get the mask 0."""
    parts = [None if v is None else masked(v) for v in values]
    if all(p is None for p in parts):
        return None
    value = _stack([p.value if p else None for p in parts], sizes, fill=0.0)
    if all(p is not None and p.mask is None for p in parts):
        return value
    ones = (1,) * (value.ndim - 1)
    masks = [
        value.new_zeros(1, *ones) if p is None else value.new_ones(1, *ones) if p.mask is None else p.mask
        for p in parts
    ]
    return Masked(value, _stack(masks, sizes, fill=0.0))


def join_deltas(values: Sequence[Delta | None], sizes: Sizes) -> Delta | None:
    """Weight offsets: low-rank ones are brought to one rank, different forms of one weight to the dense form."""
    present = [v for v in values if v is not None]
    if not present:
        return None
    if all(isinstance(v, LowRank) for v in present):
        return _join_low_rank([v if isinstance(v, LowRank) else None for v in values], sizes)
    if all(isinstance(v, HeadCode) for v in present):
        codes = [v if isinstance(v, HeadCode) else None for v in values]
        heads = {id(c.head): c.head for c in codes if c is not None}
        if len(heads) == 1:
            code = _stack([c.code if c else None for c in codes], sizes, fill=0.0)
            passes = _stack([c.passes if c else None for c in codes], sizes, fill=0.0)
            return HeadCode(code, passes, next(iter(heads.values())))
    shape = _dense_shape(present)
    return _stack([None if v is None else dense(v, shape) for v in values], sizes, fill=0.0)


def join_features(values: Sequence[Feature | None], sizes: Sizes) -> Feature | None:
    """Hooks of one site, operation by operation."""
    films = [f.film if f else None for f in values]
    film = None
    if any(films):
        scale = _stack([f[0] if f else None for f in films], sizes, fill=0.0)
        film = (scale, _stack([f[1] if f else None for f in films], sizes, fill=0.0))

    def part(name: str) -> Any:
        return join_masked([getattr(f, name) if f else None for f in values], sizes)

    return Feature(film, part("add"), part("replace"), part("image"))


def join_segments(values: Sequence[Segments | None], sizes: Sizes) -> Segments | None:
    """Segments, by their names: one that a code lacks gets an empty mask, a code without any is one whole segment."""
    present = [v for v in values if v is not None]
    if not present:
        return None
    names = tuple(dict.fromkeys(name for v in present for name in v.names))
    whole = present[0].arranged(names).whole()
    parts = [v.arranged(names) if v else whole for v in values]
    return Segments(
        _stack([p.masks for p in parts], sizes, fill=0.0),
        _stack([p.w for p in parts], sizes, fill=0.0),
        join_maps(join_offsets, [p.styles for p in parts], sizes, "styles"),
        join_offsets([p.background for p in parts], sizes),
        names,
    )


def join_z(values: Sequence[Tensor | None], sizes: Sizes) -> Tensor | None:
    """The latents in Z, if all codes have one; there is no neutral value for the others."""
    return None if any(v is None for v in values) else _stack(values, sizes, fill=0.0)


def _stack(values: Sequence[Tensor | None], sizes: Sizes, fill: float) -> Tensor:
    """Concatenate along the batch: shared tensors are repeated, missing ones are ``fill``."""
    present = [v for v in values if v is not None]
    first = present[0]
    if len(first) == 1 and all(v is first for v in values):
        return first  # one tensor, shared by all of them
    tail = np.broadcast_shapes(*(v.shape[1:] for v in present))  # torch's own imports sympy, for half a second
    filled = [first.new_full((1, *tail), fill) if v is None else v for v in values]
    return torch.cat([v.expand(size, *tail) for v, size in zip(filled, sizes, strict=True)])


def _join_low_rank(values: Sequence[LowRank | None], sizes: Sizes) -> LowRank:
    present = [v for v in values if v is not None]
    rank = max(v.left.shape[2] for v in present)

    def side(name: str, dim: int) -> Tensor:
        return _stack([_pad(getattr(v, name), dim, rank) if v else None for v in values], sizes, fill=0.0)

    return LowRank(side("left", 2), side("right", 1))


def _pad(factor: Tensor, dim: int, rank: int) -> Tensor:
    missing = rank - factor.shape[dim]
    if missing == 0:
        return factor
    shape = list(factor.shape)
    shape[dim] = missing
    return torch.cat([factor, factor.new_zeros(shape)], dim=dim)


def _dense_shape(values: Sequence[Delta]) -> Sequence[int]:
    """The weight's shape, from an offset that knows it."""
    for value in values:
        if isinstance(value, Tensor):
            return value.shape[1:]
    for value in values:
        if isinstance(value, HeadCode) and value.head is not None:
            return value.head(value.code[:1], value.passes[:1]).shape[1:]
    raise ValueError("hypernetwork codes without their heads can only be joined with each other: Code.with_heads")
