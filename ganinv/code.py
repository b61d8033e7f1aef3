"""``Code``: what an inversion *is*. A batch of latents and everything else the generator needs to render it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

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


Delta = Tensor | LowRank


@dataclass(frozen=True)
class Code:
    """A batch of B inverted (or sampled) images.

    Args:
        w: [B, num_ws, w_dim]. W when all rows are equal, W+ when they are not.
        noise: conv index k -> [B or 1, 1, r, r], replaces the noise buffer of that layer.
        styles: layer name (``convs.3``, ``torgbs.1``) -> [B, C], added to the layer's style: an offset in S
            (StyleSpace, Wu et al. 2021), after the affine and before the modulation.
        weights: parameter name of the synthesis (``convs.3.weight``) -> offset with a leading batch dimension,
            dense or low-rank. Every sample then has a generator of its own (PTI, Roich et al. 2022).
    """

    w: Tensor
    noise: Mapping[int, Tensor] | None = None
    styles: Mapping[str, Tensor] | None = None
    weights: Mapping[str, Delta] | None = None

    def __post_init__(self) -> None:
        if self.w.ndim != 3:
            raise ValueError(
                f"Code.w must be [batch, num_ws, w_dim], got shape {tuple(self.w.shape)}; "
                "use w[:, None].expand(-1, g.num_ws, -1) for a batch of single w vectors"
            )

    def __len__(self) -> int:
        return self.w.shape[0]

    def map(self, fn: Callable[[Tensor], Tensor]) -> Code:
        """A new code with ``fn`` applied to every tensor."""

        def walk(value: Any) -> Any:
            if isinstance(value, LowRank):
                return LowRank(fn(value.left), fn(value.right))
            if isinstance(value, Mapping):
                return {k: walk(v) for k, v in value.items()}
            return None if value is None else fn(value)

        return Code(walk(self.w), walk(self.noise), walk(self.styles), walk(self.weights))

    def to(self, device: torch.device | str) -> Code:
        return self.map(lambda t: t.to(device))

    def detach(self) -> Code:
        return self.map(torch.Tensor.detach)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Code:
        """Select samples. An integer keeps the batch dimension."""
        batch = len(self)
        if isinstance(index, int):
            index = slice(index, index + 1 or None)
        elif not isinstance(index, slice | Tensor):
            index = torch.as_tensor(list(index), dtype=torch.long)
        # A leading dimension of 1 in a batch of B > 1 is shared by the batch (noise maps may be).
        return self.map(lambda t: t[index] if t.shape[0] == batch else t)

    def with_w(self, w: Tensor) -> Code:
        """The same extras around another latent: how edits are applied to tuned inversions."""
        return replace(self, w=w)

    @staticmethod
    def cat(codes: Sequence[Code]) -> Code:
        """Concatenate along the batch. Codes without an extra that another one has get the neutral (zero) offset."""
        if not codes:
            raise ValueError("Code.cat needs at least one code")
        if len(codes) == 1:
            return codes[0]
        noise_sites = _common_keys([c.noise for c in codes], "noise")
        return Code(
            w=torch.cat([c.w for c in codes]),
            noise=_cat_noise(codes, noise_sites) if noise_sites else None,
            styles=_cat_offsets(codes, [c.styles for c in codes]),
            weights=_cat_offsets(codes, [c.weights for c in codes]),
        )


def _common_keys(parts: Sequence[Mapping[int, Tensor] | None], what: str) -> set[int]:
    keys = {frozenset(p or ()) for p in parts}
    if len(keys) > 1:
        raise ValueError(f"codes with and without given {what} cannot be joined: give all of them {what} maps")
    return set(next(iter(keys)))


def _cat_noise(codes: Sequence[Code], sites: set[int]) -> dict[int, Tensor]:
    return {
        k: torch.cat([c.noise[k].expand(len(c), -1, -1, -1) for c in codes if c.noise is not None])
        for k in sorted(sites)
    }


def _cat_offsets(codes: Sequence[Code], parts: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    names = sorted({name for part in parts for name in part or ()})
    if not names:
        return None
    out: dict[str, Any] = {}
    for name in names:
        values = [part.get(name) if part else None for part in parts]
        example = next(v for v in values if v is not None)
        if isinstance(example, LowRank):
            ranks = {v.left.shape[2] if isinstance(v, LowRank) else 0 if v is None else -1 for v in values}
            if -1 in ranks:
                raise ValueError(f"weight offset {name!r} is dense in one code and low-rank in another")
            out[name] = LowRank(
                torch.cat([_pad_rank(v, c, example, max(ranks), "left") for v, c in zip(values, codes, strict=True)]),
                torch.cat([_pad_rank(v, c, example, max(ranks), "right") for v, c in zip(values, codes, strict=True)]),
            )
        else:
            zeros = (example.new_zeros((len(c), *example.shape[1:])) for c in codes)
            out[name] = torch.cat([z if v is None else v for v, z in zip(values, zeros, strict=True)])
    return out


def _pad_rank(value: LowRank | None, code: Code, example: LowRank, rank: int, side: str) -> Tensor:
    factor = getattr(value if value is not None else example, side)
    if value is None:
        factor = factor.new_zeros((len(code), *factor.shape[1:]))
    dim = 2 if side == "left" else 1
    missing = rank - factor.shape[dim]
    if missing == 0:
        return factor
    shape = list(factor.shape)
    shape[dim] = missing
    return torch.cat([factor, factor.new_zeros(shape)], dim=dim)
