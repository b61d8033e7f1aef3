"""``Segments``: the part of a code that gives each region of an image a latent of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor

from ganinv.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Segments:
    """K whole images, of which each shows where its mask is (ChunkyGAN, Subrtova et al. 2022): segment i renders
    ``Code.w + w[:, i]``, and the image is the sum of the renderings times their masks.

    Latents are kept as offsets to ``Code.w``, so that whatever moves ``Code.w``, such as an edit, moves all segments.

    Args:
        masks: [B or 1, K, 1, R, R] in [0, 1]. Where they sum to more than 1 they are divided by their sum.
        w: [B or 1, K, num_ws, w_dim], added to ``Code.w``.
        styles: layer name -> [B or 1, K, C], added to that layer's style, beside ``Code.styles``: a segment in S.
        background: [B or 1, C, R, R], what is seen outside all masks: the original photo. None is grey (0), for masks
            that sum to 1 everywhere.
        names: one per segment, of letters, digits, ``_`` and ``-``; ``0``, ``1``, ... by default.
    """

    masks: Tensor
    w: Tensor
    styles: Mapping[str, Tensor] | None = None
    background: Tensor | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.masks.ndim != 5 or self.w.ndim != 4 or self.masks.shape[1] != self.w.shape[1] or not len(self):
            raise ValueError(
                "Segments need masks [batch, K, 1, R, R] and w [batch, K, num_ws, w_dim] for K of at least 1, got "
                f"{list(self.masks.shape)} and {list(self.w.shape)}"
            )
        if not self.names:
            object.__setattr__(self, "names", tuple(map(str, range(len(self)))))
        wrong = [name for name in self.names if not _NAME.fullmatch(name)]
        if wrong or len(self.names) != len(self) or len(set(self.names)) != len(self):
            raise ValueError(
                f"{len(self)} segments need as many different names of letters, digits, '_' and '-', got {self.names}"
            )

    def __len__(self) -> int:
        """The number of segments K."""
        return self.masks.shape[1]

    def index(self, segment: str | int) -> int:
        """The number of a segment, by name or number.

        Raises:
            ConfigError: there is no such segment.
        """
        if isinstance(segment, str) and segment in self.names:
            return self.names.index(segment)
        if isinstance(segment, int) and 0 <= segment < len(self):
            return segment
        raise ConfigError(f"no segment {segment!r}; there are: {', '.join(self.names)}, or 0 to {len(self) - 1}")

    def shares(self) -> Tensor:
        """What each segment contributes to each pixel: the masks [B or 1, K, 1, R, R], made to sum to at most 1."""
        return self.masks / sequential_sum(self.masks).clamp_min(1.0)[:, None]

    def composite(self, renderings: Iterable[Tensor]) -> Tensor:
        """The image [B, C, R, R] of the K renderings [B, C, R, R]: ``sum_i S_i G_i + (1 - sum_i S_i) * background``."""
        shares = self.shares()
        image = reduce(torch.add, (shares[:, k] * rendering for k, rendering in enumerate(renderings)))
        if self.background is None:
            return image
        return image + (1 - sequential_sum(shares)).clamp_min(0.0) * self.background

    def present(self) -> Tensor:
        """[B or 1, K] bool: which segments an image has. The others' masks are empty."""
        return self.masks.flatten(2).any(dim=2)

    def moved(self, segment: str | int, step: Tensor, styles: Mapping[str, Tensor] | None = None) -> Segments:
        """With ``step`` [B, num_ws, w_dim] added to one segment's latent, and ``styles``, layer name -> [B or 1, C], to its
        styles.

        Raises:
            ConfigError: there is no such segment.
        """
        k, own = self.index(segment), dict(self.styles or {})
        for name, offset in (styles or {}).items():
            before = own.get(name, offset.new_zeros(1, len(self), offset.shape[1]))
            own[name] = _added_at(before, k, offset)
        return replace(self, w=_added_at(self.w, k, step), styles=own or None)

    def centred(self) -> tuple[Tensor, Segments]:
        """The mean latent of the segments by area [B, num_ws, w_dim], and the segments as offsets to it.

        ``self.w`` are whole latents here, offsets to zero, with a batch dimension of B. Empty segments get the offset 0;
        of an image that has nothing else the first one counts.
        """
        areas = self.shares().sum(dim=(2, 3, 4)).expand(len(self.w), -1)
        first = torch.zeros_like(areas)
        first[:, 0] = 1
        weights = torch.where(sequential_sum(areas)[:, None] > 0, areas, first)[..., None, None]
        w = sequential_sum(weights * self.w) / sequential_sum(weights)
        return w, replace(self, w=(self.w - w[:, None]) * self.present()[..., None, None])

    def arranged(self, names: Sequence[str]) -> Segments:
        """The same segments in the order of ``names``; those that this code lacks get an empty mask."""
        if tuple(names) == self.names:
            return self
        index = [self.names.index(name) if name in self.names else None for name in names]

        def pick(values: Tensor) -> Tensor:
            empty = torch.zeros_like(values[:, 0])
            return torch.stack([empty if k is None else values[:, k] for k in index], dim=1)

        styles = None if self.styles is None else {name: pick(v) for name, v in self.styles.items()}
        return Segments(pick(self.masks), pick(self.w), styles, self.background, tuple(names))

    def whole(self) -> Segments:
        """A single segment, the whole image, with the code's own latent: it changes nothing."""
        masks = torch.zeros_like(self.masks[:1])
        masks[:, 0] = 1
        return Segments(masks, torch.zeros_like(self.w[:1]), names=self.names)


def sequential_sum(values: Tensor) -> Tensor:
    """The sum over dimension 1 in order, so that empty segments change no bit; a tree of sums would not guarantee that."""
    return reduce(torch.add, values.unbind(1))


def _added_at(values: Tensor, k: int, step: Tensor) -> Tensor:
    """``values`` [B or 1, K, ...] with ``step`` [B or 1, ...] added to those of number k."""
    batch = max(len(values), len(step))
    out = values.expand(batch, *values.shape[1:]).clone()
    out[:, k] += step
    return out
