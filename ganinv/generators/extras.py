"""How a code's extras enter a synthesis: the order of operations of one layer, and the checks that a code fits a generator."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ganinv.codes.code import Code
from ganinv.codes.parts import Delta, Feature, HeadCode, LowRank, Masked, dense, map_tensors, masked
from ganinv.generators import low_rank

HOOK_SITE = re.compile(r"(act|block)\[(\d+)\]")


class Layered(Protocol):
    """The part of a synthesis that the checks below use."""

    convs: nn.ModuleList
    torgbs: nn.ModuleList

    @property
    def const(self) -> Tensor: ...

    def layers(self) -> Sequence[tuple[str, Any, int]]: ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...

    def get_parameter(self, target: str) -> nn.Parameter: ...


class Extras:
    """The extras of one code, as the layers use them. Each method is a no-op if the code has no such extra."""

    def __init__(self, code: Code) -> None:
        self._weights: Mapping[str, Delta] = code.weights or {}
        self._scales: Mapping[str, Delta] = code.scales or {}
        self._styles: Mapping[str, Tensor] = code.styles or {}
        self._style_values: Mapping[str, Tensor | Masked] = code.style_values or {}
        self._noise: Mapping[int, Tensor | Masked] = code.noise or {}
        self._padding: Mapping[int, Tensor] = code.padding or {}
        self._const = code.const
        self.features: Mapping[str, Feature] = code.features or {}

    def parameter(self, base: Tensor, name: str) -> Tensor:
        """``base * (1 + scale) + offset``: [B, *shape], or ``base`` itself [*shape] when nothing changes it.

        An offset that the batch shares gives [*shape] as well: the layer then takes its fast, dense form.
        """
        scale, offset = self._scales.get(name), self._weights.get(name)
        if scale is None and offset is None:
            return base
        out = base
        if scale is not None:
            out = torch.addcmul(base, base, dense(scale, base.shape).to(base.dtype))
        if offset is not None:
            out = out + dense(offset, base.shape).to(base.dtype)
        return out[0] if len(out) == 1 else out

    def weight(self, base: Tensor, name: str) -> tuple[Tensor, LowRank | None]:
        """``parameter``, in two parts where that is faster: the base and the low-rank offset to it.

        A scale multiplies the whole weight, so beside one the offset is added in.
        """
        offset = self._weights.get(name)
        if isinstance(offset, LowRank) and name not in self._scales and low_rank.pays(offset, base.shape):
            return base, map_tensors(offset, lambda t: t.to(base.dtype))
        return self.parameter(base, name), None

    def style(self, style: Tensor, name: str) -> Tensor:
        """The style [B, C] that the layer uses, of the one that its affine gave."""
        value, offset = self._style_values.get(name), self._styles.get(name)
        if value is not None:
            style = masked(value).over(style)
        return style if offset is None else style + offset.to(style.dtype)

    def const(self, const: Tensor, batch: int) -> Tensor:
        """The constant [B, C, 4, 4]."""
        const = self.parameter(const, "const").expand(batch, -1, -1, -1)
        return const if self._const is None else masked(self._const).over(const)

    def ring(self, k: int) -> Tensor | None:
        return self._padding.get(k)

    def given_noise(self, k: int) -> Masked | None:
        given = self._noise.get(k)
        return None if given is None else masked(given)


class Tap:
    """Changes the features of one pass at its sites, and keeps the requested ones."""

    def __init__(self, features: Mapping[str, Feature], capture: Collection[str]) -> None:
        self._features, self._capture = features, capture
        self.captured: dict[str, Tensor] = {}

    def __call__(self, site: str, x: Tensor) -> Tensor:
        """The features after the hook of ``site``."""
        hook = self._features.get(site)
        return self._change(site, x, x if hook is None else hook(x))

    def image(self, k: int, image: Tensor) -> Tensor:
        """The sum of the toRGB outputs up to block k."""
        hook = self._features.get(f"block[{k}]")
        given = None if hook is None else hook.image
        return self._change(f"image[{k}]", image, image if given is None else masked(given).over(image))

    def _change(self, site: str, before: Tensor, after: Tensor) -> Tensor:
        if f"{site}.before" in self._capture:
            self.captured[f"{site}.before"] = before
        if site in self._capture:
            self.captured[site] = after
        return after


def sites(synthesis: Layered) -> list[str]:
    """Every site that can be captured; each also as ``<site>.before``, before the code's hook changes it."""
    last = len(synthesis.convs)
    names = [f"act[{k}]" for k in range(last)] + [f"block[{k}]" for k in range(0, last, 2)]
    return names + [f"image[{2 * b}]" for b, torgb in enumerate(synthesis.torgbs) if torgb is not None]


def check_capture(capture: Iterable[str], synthesis: Layered) -> None:
    """Raises ValueError for sites that this synthesis does not have."""
    known = sites(synthesis)
    if unknown := sorted(set(capture) - {*known, *(f"{site}.before" for site in known)}):
        raise ValueError(f"unknown capture sites {unknown}; this generator has {known}, each also as '<site>.before'")


def check_extras(code: Code, synthesis: Layered) -> None:
    """Raises ValueError for extras that are not for this synthesis: a layer or site it does not have, or a shape."""
    _Check(code, synthesis).all()


class _Check:
    def __init__(self, code: Code, synthesis: Layered) -> None:
        self.code, self.synthesis, self.batch = code, synthesis, len(code)
        self.convs: list[Any] = list(synthesis.convs)

    def all(self) -> None:
        code, widths = self.code, {name: layer.weight.shape[1] for name, layer, _ in self.synthesis.layers()}
        for k, noise in (code.noise or {}).items():
            r = self._conv(k, "noise").resolution
            self._masked(noise, f"noise[{k}]", (1, r, r), (1, r, r))
        for name, style in (code.styles or {}).items():
            self._shape(style, f"styles[{name!r}]", (_known(name, widths, "styles"),))
        for name, value in (code.style_values or {}).items():
            width = _known(name, widths, "style_values")
            self._masked(value, f"style_values[{name!r}]", (width,), (width,))
        if code.const is not None:
            self._masked(code.const, "const", tuple(self.synthesis.const.shape), (1, 4, 4))
        for k, ring in (code.padding or {}).items():
            conv = self._conv(k, "padding")
            if k % 2:
                raise ValueError(f"Code.padding[{k}]: only even convolutions can have a ring, odd ones double the size")
            self._shape(ring, f"padding[{k}]", (conv.weight.shape[1], 4 * (conv.resolution + 1)))
        for field, deltas in (("weights", code.weights), ("scales", code.scales)):
            for name, delta in (deltas or {}).items():
                self._delta(delta, name, field)
        for site, feature in (code.features or {}).items():
            self._feature(feature, site)

    def _delta(self, delta: Delta, name: str, field: str) -> None:
        what = f"{field}[{name!r}]"
        try:
            shape = self.synthesis.get_parameter(name).shape
        except AttributeError:
            _known(name, dict(self.synthesis.named_parameters()), field)
            raise
        if isinstance(delta, LowRank):
            rank = delta.left.shape[-1]
            rows = shape[0] if shape else 1
            self._shape(delta.left, f"{what}.left", (rows, rank))
            self._shape(delta.right, f"{what}.right", (rank, shape.numel() // rows))
        elif isinstance(delta, HeadCode):
            self._shape(delta.code, f"{what}.code", tuple(delta.code.shape[1:]))
            self._shape(delta.passes, f"{what}.passes", ())
        else:
            self._shape(delta, what, tuple(shape))

    def _feature(self, feature: Feature, site: str) -> None:
        match = HOOK_SITE.fullmatch(site)
        blocks = [f"block[{k}]" for k in range(0, len(self.convs), 2)]
        known = [f"act[{k}]" for k in range(len(self.convs))] + blocks
        if match is None or site not in known:
            raise ValueError(f"Code.features[{site!r}] is not a site of this generator; it has {known}")
        k = int(match[2])
        conv, what = self.convs[k], f"features[{site!r}]"
        r, shape = conv.resolution, (conv.weight.shape[0], conv.resolution, conv.resolution)
        for name, value in zip(("scale", "shift"), feature.film or (), strict=False):
            self._shape(value, f"{what}.film {name}", shape, smaller=True)
        for name, part in (("add", feature.add), ("replace", feature.replace)):
            if part is not None:
                self._masked(part, f"{what}.{name}", shape, (1, r, r))
        if feature.image is not None:
            torgb: Any = self.synthesis.torgbs[k // 2]
            if match[1] == "act" or torgb is None:
                raise ValueError(f"Code.{what}.image: there is an image only at block sites that have a toRGB")
            self._masked(feature.image, f"{what}.image", (torgb.weight.shape[0], r, r), (1, r, r))

    def _conv(self, k: int, field: str) -> Any:
        if not 0 <= k < len(self.convs):
            raise ValueError(f"Code.{field}[{k}]: this generator has convolutions 0 to {len(self.convs) - 1}")
        return self.convs[k]

    def _masked(self, part: Tensor | Masked, what: str, shape: tuple[int, ...], mask: tuple[int, ...]) -> None:
        whole = masked(part)
        self._shape(whole.value, what, shape)
        if whole.mask is not None:
            self._shape(whole.mask, f"{what} mask", mask, smaller=True)

    def _shape(self, tensor: Tensor, what: str, shape: tuple[int, ...], smaller: bool = False) -> None:
        """``smaller``: a size of 1 is fine anywhere."""
        got, batches = tuple(tensor.shape), {1, self.batch}
        fits = got[1:] == shape
        if smaller and len(got) == 1 + len(shape):
            fits = all(g in (1, s) for g, s in zip(got[1:], shape, strict=True))
        if not (got and got[0] in batches and fits):
            either = "1" if self.batch == 1 else f"{self.batch} or 1"
            wanted = ", ".join([either, *(f"{s} or 1" if smaller and s > 1 else str(s) for s in shape)])
            raise ValueError(f"Code.{what} must have the shape [{wanted}], got {list(got)}")


def _known(name: str, names: Mapping[str, Any], field: str) -> Any:
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f", did you mean {near[0]!r}" if near else ""
        raise ValueError(f"Code.{field}[{name!r}]: no such name in this synthesis{hint}; it has {list(names)}")
    return names[name]


def blend_noise(own: Tensor | None, given: Masked) -> Tensor:
    """Noise maps given by a code, in place of the layer's own (None: no noise)."""
    if given.mask is None:
        return given.value
    return given.over(torch.zeros_like(given.value) if own is None else own)
