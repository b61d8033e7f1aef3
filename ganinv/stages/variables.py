"""What gradient descent moves, image by image: latents, noise maps, features, weights.

A :class:`Variable` says where it starts and how it enters the code; the descent (``ganinv.stages.descent``) does the rest.
All its tensors have a leading dimension of one entry per image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import reduce
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from ganinv.codes.code import Code, Feature, LowRank, Masked
from ganinv.codes.parts import masked
from ganinv.errors import ConfigError
from ganinv.generators.sites import Site, find_site, site_deviation, site_shape
from ganinv.generators.stylegan2 import Generator
from ganinv.stages.base import Context

LatentSpace = Literal["z", "z+", "w", "w+", "s"]
WeightForm = Literal["dense", "low-rank", "styles"]
Tensors = Mapping[str, Tensor]


class DescentStep(Protocol):
    """A step of the descent, as its variables see it."""

    def scheduled(self, curve: Callable[[float], float]) -> Tensor | None:
        """[B]: a curve over the share of the stage's steps that are done, in [0, 1), at each image's; None if it is zero
        for all of them. The same function each time: its values are kept."""
        ...

    def once(self, name: str, read: Callable[[], float]) -> float:
        """A number on the device that no step changes: read once, since a step that reads one waits for the device."""
        ...

    def normal(self, purpose: str, shape: Sequence[int]) -> Tensor:
        """[B, *shape] from N(0, 1), each image from its own stream."""
        ...


class Variable(Protocol):
    """Something of each image that moves."""

    @property
    def lr(self) -> float | None:
        """Learning rate; None takes the stage's."""
        ...

    def start(self, code: Code, ids: Sequence[str], context: Context) -> dict[str, Tensor]:
        """Where it starts for some images: tensors [n, ...]."""
        ...

    def put(self, code: Code, values: Tensors, generator: Generator, moment: DescentStep | None) -> Code:
        """The code with ``values`` in their place; ``moment`` is None for the result."""
        ...

    def is_matrix(self, name: str) -> bool:
        """Whether one of its tensors is a linear map, for optimisers that treat these by themselves."""
        ...

    def penalty(self, values: Tensors) -> Tensor | None:
        """What is added to each image's loss [n]."""
        ...

    def constrain(self, values: Tensors) -> Tensors | None:
        """The values brought back to where they may be, after each step; None where they may be anywhere."""
        ...


class Free:
    """A variable without a learning rate of its own, penalties or bounds."""

    lr: float | None = None

    def is_matrix(self, name: str) -> bool:
        return False

    def penalty(self, values: Tensors) -> Tensor | None:
        return None

    def constrain(self, values: Tensors) -> Tensors | None:
        return None


@dataclass(frozen=True)
class Latent(Free):
    """The latent in one of the spaces of the field.

    ``z`` [z_dim] and ``z+`` [num_ws, z_dim] go through the mapping network; ``w`` is one row, ``w+`` all rows or those of
    ``rows``; ``s`` is every layer's style (StyleSpace, Wu et al. 2021).

    Args:
        noise: noise on w in units of ``w_std`` at the start; falls quadratically to zero at ``noise_end`` of the steps
            (StyleGAN2 projector, Karras et al. 2020, appendix D).
    """

    space: LatentSpace
    rows: tuple[int, int] | None = None
    noise: float = 0.0
    noise_end: float = 0.75

    def start(self, code: Code, ids: Sequence[str], context: Context) -> dict[str, Tensor]:
        generator = context.generator
        if self.space in ("z", "z+"):
            shape = (1 if self.space == "z" else generator.num_ws, generator.z_dim)
            drawn = [torch.randn(shape, generator=context.stream(i, "z")) for i in ids]
            return {"z": torch.stack(drawn).to(code.w)}
        if self.space == "s":
            values = dict(zip(generator.style_names, generator.styles(code.w), strict=True))
            given = {name: v for name, v in (code.style_values or {}).items() if isinstance(v, Tensor)}
            return {name: given.get(name, value).clone() for name, value in values.items()}
        if self.space == "w":
            return {"w": code.w.mean(dim=1, keepdim=True)}
        first, end = self._rows(generator)
        return {"w": code.w[:, first:end].clone()}

    def put(self, code: Code, values: Tensors, generator: Generator, moment: DescentStep | None) -> Code:
        if self.space == "s":
            return replace(code, style_values=dict(values))
        if self.space in ("z", "z+"):
            z = values["z"]
            w = generator.mapping(z.flatten(0, 1)).reshape(*z.shape[:2], -1)
            moved = code.with_w(w.expand(-1, generator.num_ws, -1))
            return replace(moved, z=z[:, 0]) if self.space == "z" else moved
        w = values["w"]
        if moment is not None and self.noise:
            scale = moment.scheduled(self.noise_factor)
            if scale is not None:
                size = self.noise * moment.once("w_std", lambda: float(generator.w_std))
                w = w + size * scale[:, None, None] * moment.normal("latent", w.shape[1:])
        if self.space == "w":
            return code.with_w(w.expand(-1, generator.num_ws, -1))
        first, end = self._rows(generator)
        return code.with_w(torch.cat([code.w[:, :first], w, code.w[:, end:]], dim=1))

    def noise_factor(self, t: float) -> float:
        """Strength of the noise at t in [0, 1)."""
        return max(0.0, 1 - t / self.noise_end) ** 2

    def _rows(self, generator: Generator) -> tuple[int, int]:
        first, end = self.rows or (0, generator.num_ws)
        if not 0 <= first < end <= generator.num_ws:
            raise ConfigError(f"rows [{first}, {end}) are not rows of W+: this generator has {generator.num_ws}")
        return first, end


@dataclass(frozen=True)
class NoiseMaps(Free):
    """The noise maps of all layers: as the projector does it (random start, regularised, normalised after every step), or
    free ones that carry the detail (Image2StyleGAN++, Abdal et al. 2020).

    Args:
        strength: lent to layers whose own is zero, where maps would have no effect (a generator that was trained without
            noise); their maps start from zero. It is an offset in ``Code.weights``.
    """

    lr: float | None = None
    regularization: float = 0.0
    normalize: bool = False
    random_start: bool = False
    strength: float = 0.0

    def start(self, code: Code, ids: Sequence[str], context: Context) -> dict[str, Tensor]:
        streams = [context.stream(i, "noise") for i in ids]
        out = {}
        for k, layer in enumerate(context.generator.synthesis.convs):
            own: Tensor = layer.noise  # type: ignore[assignment]
            given = (code.noise or {}).get(k)
            if self.random_start:
                out[str(k)] = torch.stack([torch.randn(1, *own.shape, generator=s) for s in streams]).to(own)
            elif isinstance(given, Tensor):
                out[str(k)] = given.expand(len(ids), -1, -1, -1).clone()
            else:
                if self._lends(k, code):
                    own = own * (layer.noise_strength != 0)
                out[str(k)] = own.expand(len(ids), 1, -1, -1).clone()
        return out

    def put(self, code: Code, values: Tensors, generator: Generator, moment: DescentStep | None) -> Code:
        weights = dict(code.weights or {})
        for k, layer in enumerate(generator.synthesis.convs):
            if self._lends(k, code):
                strength: Tensor = layer.noise_strength  # type: ignore[assignment]
                weights[_strength(k)] = (self.strength * (strength == 0)).to(strength)[None]
        return replace(code, noise={int(k): v for k, v in values.items()}, weights=weights or None)

    def _lends(self, k: int, code: Code) -> bool:
        return self.strength > 0 and _strength(k) not in (code.weights or {})

    def penalty(self, values: Tensors) -> Tensor | None:
        if not self.regularization:
            return None
        # One after the other: a sum over a stack is done in an order that depends on the number of images.
        return self.regularization * reduce(torch.add, (noise_correlation(n) for n in values.values()))

    def constrain(self, values: Tensors) -> Tensors | None:
        """Zero mean and unit mean square, for every map of every image."""
        if not self.normalize:
            return None
        centred = {k: n - n.mean(dim=(1, 2, 3), keepdim=True) for k, n in values.items()}
        return {k: n * n.square().mean(dim=(1, 2, 3), keepdim=True).rsqrt() for k, n in centred.items()}


def _strength(k: int) -> str:
    return f"convs.{k}.noise_strength"


def original_noise(code: Code, generator: Generator) -> Code:
    """The code with the generator's own noise maps in place of those it has, and none in layers without a strength of
    their own: what it renders without the detail that noise optimisation put there."""
    if code.noise is None:
        return code
    own = {}
    for k in code.noise:
        layer: Any = generator.synthesis.convs[k]
        own[k] = (layer.noise * (layer.noise_strength != 0))[None, None]
    return replace(code, noise=own)


@dataclass(frozen=True)
class FeatureOffset(Free):
    """What is added to the features at one site, ``act[k]`` or ``block[k]`` or one by meaning, from zero.

    Where the code puts features in the place of the generator's own there (``Feature.replace``, an inverter of features), these
    are what moves, and stay features that follow edits. An offset that the code holds within a mask (SAM) stays within it.

    Args:
        prior: weight of the mean squared offset of an image, in the unit that the learning rate counts in.
        in_std: the learning rate counts standard deviations of the site's features from image to image, so that one number is
            the same step in every generator and at every site (``generators.sites.site_statistics``).
    """

    site: Site
    lr: float | None = None
    in_std: bool = False
    prior: float = 0.0

    def start(self, code: Code, ids: Sequence[str], context: Context) -> dict[str, Tensor]:
        site = find_site(self.site, context.generator)
        given = (code.features or {}).get(site)
        channels, side = site_shape(site, context.generator)
        zero = code.w.new_zeros(len(code), channels, side, side)
        if given is None or given.add is None or given.replace is not None:
            return {"offset": zero}
        add = masked(given.add).value
        return {"offset": (add / self._unit(site, context.generator)).expand_as(zero).clone()}

    def put(self, code: Code, values: Tensors, generator: Generator, moment: DescentStep | None) -> Code:
        site = find_site(self.site, generator)
        features = dict(code.features or {})
        there, offset = features.get(site, Feature()), values["offset"] * self._unit(site, generator)
        if there.replace is None:
            mask = None if there.add is None else masked(there.add).mask
            features[site] = replace(there, add=offset if mask is None else Masked(offset, mask))
        else:
            held = masked(there.replace)
            moved = held.value + offset
            features[site] = replace(there, replace=moved if held.mask is None else Masked(moved, held.mask))
        return replace(code, features=features)

    def penalty(self, values: Tensors) -> Tensor | None:
        return self.prior * values["offset"].square().mean(dim=(1, 2, 3)) if self.prior else None

    def _unit(self, site: str, generator: Generator) -> float:
        return site_deviation(site, generator) if self.in_std else 1.0


@dataclass(frozen=True)
class Weights(Free):
    """Offsets to the weights of the synthesis: a generator of its own for every image (PTI, Roich et al. 2022).

    Args:
        form: ``dense``; ``low-rank``, two factors of ``rank`` for every weight that they make smaller (Hu et al. 2021,
            LoRA), with the rest dense; or ``styles``, an offset in S for every layer that ``layers`` names (what scaling
            the input channels of a convolution comes to) and the biases.
        layers: patterns of parameter names: ``*``, ``convs.*.weight``, ``torgbs.*``.
    """

    form: WeightForm = "dense"
    rank: int = 8
    layers: tuple[str, ...] = ("*",)
    lr: float | None = None

    def start(self, code: Code, ids: Sequence[str], context: Context) -> dict[str, Tensor]:
        generator, count = context.generator, len(ids)
        if code.weights or (self.form == "styles" and code.styles):
            raise ConfigError("these codes have weights of their own already; tuning starts from untuned ones")
        out: dict[str, Tensor] = {}
        for name, parameter in self._parameters(generator).items():
            if self.form == "styles" and name.endswith("weight"):
                continue
            shape = self._factors(parameter)
            if shape is None:
                out[name] = parameter.new_zeros(count, *parameter.shape)
            else:
                rows, columns = shape
                out[f"{name}/left"] = parameter.new_zeros(count, rows, self.rank)
                out[f"{name}/right"] = _right(name, self.rank, columns).to(parameter).expand(count, -1, -1).clone()
        if self.form == "styles":
            for name, style in zip(generator.style_names, generator.styles(code.w[:1]), strict=True):
                if any(fnmatch(f"{name}.affine.bias", p) for p in self.layers):
                    out[f"{name}/style"] = style.new_zeros(count, style.shape[1])
        return out

    def put(self, code: Code, values: Tensors, generator: Generator, moment: DescentStep | None) -> Code:
        weights: dict[str, Tensor | LowRank] = {}
        styles: dict[str, Tensor] = {}
        for key, value in values.items():
            name, _, part = key.partition("/")
            if part == "left":
                weights[name] = LowRank(value, values[f"{name}/right"])
            elif part == "style":
                styles[name] = value
            elif not part:
                weights[name] = value
        return replace(code, weights=weights or None, styles=styles or code.styles)

    def is_matrix(self, name: str) -> bool:
        return name.endswith((".weight", "/left", "/right"))

    def _parameters(self, generator: Generator) -> Mapping[str, Tensor]:
        parameters = dict(generator.synthesis.named_parameters())
        found = {n: p for n, p in parameters.items() if any(fnmatch(n, pattern) for pattern in self.layers)}
        if not found:
            raise ConfigError(
                f"tune.layers {list(self.layers)} match no parameter; names look like convs.3.weight, torgbs.1.bias, const"
            )
        return found

    def _factors(self, parameter: Tensor) -> tuple[int, int] | None:
        """Rows and columns of the matrix that is factored, where two factors are smaller than it."""
        if self.form != "low-rank" or parameter.ndim not in (2, 4):
            return None
        rows, columns = parameter.shape[0], parameter[0].numel()
        return (rows, columns) if self.rank * (rows + columns) < rows * columns else None


RIGHT = 0.5
"""Size of the right factors. The left ones begin at zero, and this size makes one learning rate do for both."""


def _right(name: str, rank: int, columns: int) -> Tensor:
    """The right factor that tuning starts from: random, the same for all images. [1, rank, columns]"""
    stream = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little"))
    return RIGHT * torch.randn(1, rank, columns, generator=stream) / rank**0.5


def noise_correlation(noise: Tensor) -> Tensor:
    """The projector's noise regulariser per image, for maps [B, 1, r, r]: squared auto-correlation at shift one, on a
    pyramid of halved sizes down to 8. White noise gives about 1/pixels, a constant map 2 per level."""
    total = noise.new_zeros(len(noise))
    while True:
        for dim in (2, 3):
            total = total + (noise * noise.roll(1, dim)).mean(dim=(1, 2, 3)).square()
        if noise.shape[-1] <= 8:
            return total
        noise = torch.nn.functional.avg_pool2d(noise, 2)
