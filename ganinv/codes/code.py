"""``Code``: what an inversion *is*. A batch of latents and everything else the generator needs to render it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from ganinv.codes.joining import (
    join_deltas,
    join_features,
    join_maps,
    join_masked,
    join_offsets,
    join_segments,
    join_z,
    naming,
)
from ganinv.codes.parts import Delta, Feature, Head, HeadCode, LowRank, Masked, map_tensors
from ganinv.codes.segments import Segments
from ganinv.errors import ConfigError

__all__ = ["Code", "Delta", "Feature", "HeadCode", "LowRank", "Masked", "Segments"]


@dataclass(frozen=True)
class Code:
    """A batch of B inverted (or sampled) images.

    A code needs only ``w``. All other fields are extras; without an extra, the generator behaves as usual. Their tensors have
    a leading dimension of B, or of 1 when the batch shares them. Layers are named as in ``Generator.style_names``
    (``convs.3``, ``torgbs.1``), convolutions are counted from k = 0, r is a layer's resolution.

    Args:
        w: [B, num_ws, w_dim]. W when all rows are equal, W+ when they are not.
        noise: k -> [B or 1, 1, r, r], replaces the noise map of that layer (Image2StyleGAN++, Abdal et al. 2020).
        styles: layer name -> [B or 1, C], added to the layer's style: an offset in S (StyleSpace, Wu et al. 2021),
            after the affine and before the modulation.
        weights: parameter name of the synthesis (``convs.3.weight``, ``torgbs.1.affine.bias``, ``const``) -> offset with
            a leading batch dimension, dense or low-rank. Every sample then has a generator of its own (PTI, Roich et al.
            2022).
        const: [B or 1, C, 4, 4], replaces the learned constant (PadInv, Bai et al. 2022).
        padding: even k -> [B or 1, C, 4(r+1)], the ring around that layer's modulated input that is zero otherwise
            (PadInv; in the order of ``ganinv.generators.padding``).
        style_values: layer name -> [B or 1, C], replaces the layer's style, before ``styles`` is added.
        scales: parameter name -> offset D that multiplies: the weight becomes ``W * (1 + D)``, before modulation and
            before ``weights`` is added (HyperStyle, Alaluf et al. 2022).
        features: site -> what is done to the features there. ``act[k]`` is after the activation of convolution k,
            ``block[k]`` (even k) after the toRGB of its resolution took its copy.
        segments: latents for regions of the image, composited by masks; all other extras hold for each of them
            (ChunkyGAN, Subrtova et al. 2022).
        z: [B, z_dim], the latent that w was mapped from, for edits in Z; ``w`` may have been refined since. Never rendered.
    """

    w: Tensor
    noise: Mapping[int, Tensor | Masked] | None = None
    styles: Mapping[str, Tensor] | None = None
    weights: Mapping[str, Delta] | None = None
    const: Tensor | Masked | None = None
    padding: Mapping[int, Tensor] | None = None
    style_values: Mapping[str, Tensor | Masked] | None = None
    scales: Mapping[str, Delta] | None = None
    features: Mapping[str, Feature] | None = None
    segments: Segments | None = None
    z: Tensor | None = None

    def __post_init__(self) -> None:
        if self.w.ndim != 3:
            raise ValueError(
                f"Code.w must be [batch, num_ws, w_dim], got shape {tuple(self.w.shape)}; "
                "use w[:, None].expand(-1, g.num_ws, -1) for a batch of single w vectors"
            )

    def __len__(self) -> int:
        return self.w.shape[0]

    @property
    def plain(self) -> bool:
        """True if there is nothing besides ``w``."""
        maps = (self.noise, self.styles, self.weights, self.padding, self.style_values, self.scales, self.features)
        return self.const is None and self.segments is None and not any(maps)

    def map(self, fn: Callable[[Tensor], Tensor]) -> Code:
        """A new code with ``fn`` applied to every tensor."""
        return Code(**{f.name: map_tensors(getattr(self, f.name), fn) for f in fields(self)})

    def to(self, target: torch.device | str | torch.dtype) -> Code:
        """On another device, or in another dtype."""
        return self.map(lambda t: t.to(target))

    def detach(self) -> Code:
        return self.map(torch.Tensor.detach)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Code:
        """Select samples. An integer keeps the batch dimension."""
        batch = len(self)
        if isinstance(index, int):
            index = slice(index, index + 1 or None)
        elif not isinstance(index, slice | Tensor):
            index = torch.as_tensor(list(index), dtype=torch.long)
        # A leading dimension of 1 in a batch of B > 1 is shared by the batch.
        return self.map(lambda t: t[index] if t.shape[0] == batch else t)

    def with_w(self, w: Tensor) -> Code:
        """The same extras around another latent: how edits are applied to tuned inversions."""
        return replace(self, w=w)

    def segment(self, segment: str | int) -> Code:
        """One segment, by name or number, as a code without segments: the whole image that the segment shows a part of.

        Raises:
            ConfigError: there is no such segment.
        """
        if self.segments is None:
            raise ConfigError(f"no segment {segment!r}: this code has no segments")
        k = self.segments.index(segment)
        styles = dict(self.styles or {})
        for name, offset in (self.segments.styles or {}).items():
            styles[name] = styles[name] + offset[:, k] if name in styles else offset[:, k]
        return replace(self, w=self.w + self.segments.w[:, k], styles=styles or None, segments=None, z=None)

    def with_heads(self, heads: Mapping[str, Head]) -> Code:
        """The same code with a hypernetwork's heads: parameter name (``convs.3.weight``) -> head."""

        def bound(deltas: Mapping[str, Delta] | None) -> Mapping[str, Delta] | None:
            if deltas is None:
                return None
            return {
                n: replace(d, head=heads[n]) if isinstance(d, HeadCode) and n in heads else d for n, d in deltas.items()
            }

        return replace(self, weights=bound(self.weights), scales=bound(self.scales))

    @staticmethod
    def cat(codes: Sequence[Code]) -> Code:
        """Concatenate along the batch. If only some codes have an extra, the others get one without effect:
        a zero offset, a replacement with the mask 0, or one segment that is the whole image. The batch therefore renders
        exactly what its codes render alone.

        Raises:
            ValueError: no codes, or codes of generators of different shapes.
        """
        if not codes:
            raise ValueError("Code.cat needs at least one code")
        if len(codes) == 1:
            return codes[0]
        sizes = [len(c) for c in codes]
        with naming("w"):
            w = torch.cat([c.w for c in codes])
        with naming("const"):
            const = join_masked([c.const for c in codes], sizes)
        with naming("segments"):
            segments = join_segments([c.segments for c in codes], sizes)
        return Code(
            w=w,
            noise=join_maps(join_masked, [c.noise for c in codes], sizes, "noise"),
            styles=join_maps(join_offsets, [c.styles for c in codes], sizes, "styles"),
            weights=join_maps(join_deltas, [c.weights for c in codes], sizes, "weights"),
            const=const,
            padding=join_maps(join_offsets, [c.padding for c in codes], sizes, "padding"),
            style_values=join_maps(join_masked, [c.style_values for c in codes], sizes, "style_values"),
            scales=join_maps(join_deltas, [c.scales for c in codes], sizes, "scales"),
            features=join_maps(join_features, [c.features for c in codes], sizes, "features"),
            segments=segments,
            z=join_z([c.z for c in codes], sizes),
        )
