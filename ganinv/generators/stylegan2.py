"""The StyleGAN2 generator: one ``synthesize(code)`` that hosts every method.

Architecture: Karras et al. 2020 (CVPR), skip generator, "config F" order of operations, at any power-of-two resolution
and any channel widths. Indices follow the literature: convolution k = 0 .. 2n-4 reads W+ row k, toRGB b = 0 .. n-2 reads
row 2b+1, with n = log2(resolution); there are 2n-2 rows.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Literal, cast, overload

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor, nn

from ganinv.code import Code, Delta, LowRank
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.layers import FIR, EqualLinear, UpsampleRGB, act, modulated_conv2d, normalize_2nd_moment

NoiseMode = Literal["const", "none", "random"]


class GeneratorConfig(BaseModel):
    """The shape of a StyleGAN2. ``channels[i]`` is the width at resolution ``4 * 2**i``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    resolution: int
    channels: tuple[int, ...]
    z_dim: int = 512
    w_dim: int = 512
    c_dim: int = 0
    img_channels: int = 3
    mapping_layers: int = 8
    mapping_lr_mul: float = 0.01

    @model_validator(mode="after")
    def _check(self) -> GeneratorConfig:
        levels = math.log2(self.resolution)
        if levels != int(levels) or self.resolution < 8:
            raise ValueError(f"resolution must be a power of two of at least 8, got {self.resolution}")
        if len(self.channels) != int(levels) - 1:
            raise ValueError(
                f"channels must name one width for each of the {int(levels) - 1} resolutions 4 .. {self.resolution}, "
                f"got {len(self.channels)}"
            )
        return self

    @property
    def num_convs(self) -> int:
        return 2 * len(self.channels) - 1

    @property
    def num_ws(self) -> int:
        return 2 * len(self.channels)


class MappingNetwork(nn.Module):
    """The mapping network f: Z -> W. Input z (and the class embedding) is normalised to unit second moment."""

    def __init__(self, cfg: GeneratorConfig) -> None:
        super().__init__()
        self.c_dim = cfg.c_dim
        self.embed = EqualLinear(cfg.c_dim, cfg.w_dim) if cfg.c_dim else None
        dims = [cfg.z_dim + (cfg.w_dim if cfg.c_dim else 0)] + [cfg.w_dim] * cfg.mapping_layers
        self.fc = nn.ModuleList(
            EqualLinear(i, o, lr_mul=cfg.mapping_lr_mul, activate=True) for i, o in itertools.pairwise(dims)
        )

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        x = normalize_2nd_moment(z)
        if self.embed is not None:
            if c is None or c.shape[1:] != (self.c_dim,):
                got = None if c is None else tuple(c.shape)
                raise ValueError(f"this generator is conditional: map() needs c of shape [B, {self.c_dim}], got {got}")
            x = torch.cat([x, normalize_2nd_moment(self.embed(c))], dim=1)
        for layer in self.fc:
            x = layer(x)
        return x


class _Weights:
    """Parameters of one layer, with the per-sample offsets of a code added where there are any."""

    def __init__(self, offsets: Mapping[str, Delta] | None) -> None:
        self.offsets = offsets or {}

    def get(self, layer: nn.Module, prefix: str, name: str) -> tuple[Tensor, bool]:
        """The parameter and whether it has a leading batch dimension."""
        base: Tensor = layer.get_parameter(name)
        delta = self.offsets.get(f"{prefix}.{name}" if prefix else name)
        if delta is None:
            return base, False
        return base + (delta.dense(base.shape) if isinstance(delta, LowRank) else delta), True

    def style(self, affine: EqualLinear, prefix: str, w: Tensor) -> Tensor:
        weight, per_sample = self.get(affine, f"{prefix}.affine", "weight")
        bias, _ = self.get(affine, f"{prefix}.affine", "bias")
        weight = weight * affine.weight_gain
        if per_sample:
            return torch.einsum("boi,bi->bo", weight, w) + bias
        return F.linear(w, weight) + bias


class StyledConv(nn.Module):
    """Style -> modulated 3x3 convolution (optionally 2x up) -> noise -> bias -> leaky ReLU."""

    noise: Tensor

    def __init__(self, in_ch: int, out_ch: int, w_dim: int, resolution: int, up: bool) -> None:
        super().__init__()
        self.affine = EqualLinear(w_dim, in_ch, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_ch, in_ch, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_ch))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", torch.randn(resolution, resolution))
        self.resolution = resolution
        self.up = up
        self.fir = FIR(gain=4.0) if up else None

    def forward(self, x: Tensor, style: Tensor, params: _Weights, prefix: str, noise: Tensor | None) -> Tensor:
        weight, _ = params.get(self, prefix, "weight")
        x = modulated_conv2d(x, weight, style, up=self.up, fir=self.fir)
        if noise is not None:
            strength, per_sample = params.get(self, prefix, "noise_strength")
            x = x + noise * (strength[:, None, None, None] if per_sample else strength)
        return act(x + _channels(*params.get(self, prefix, "bias")))


class ToRGB(nn.Module):
    """Modulated 1x1 convolution without demodulation. The weight gain 1/sqrt(C) multiplies the style at run time."""

    def __init__(self, in_ch: int, img_channels: int, w_dim: int) -> None:
        super().__init__()
        self.affine = EqualLinear(w_dim, in_ch, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(img_channels, in_ch, 1, 1))
        self.bias = nn.Parameter(torch.zeros(img_channels))
        self.weight_gain = 1.0 / math.sqrt(in_ch)

    def forward(self, x: Tensor, style: Tensor, params: _Weights, prefix: str) -> Tensor:
        weight, _ = params.get(self, prefix, "weight")
        y = modulated_conv2d(x, weight, style * self.weight_gain, demodulate=False)
        return y + _channels(*params.get(self, prefix, "bias"))


def _channels(bias: Tensor, per_sample: bool) -> Tensor:
    return bias[:, :, None, None] if per_sample else bias[:, None, None]


class Synthesis(nn.Module):
    """The synthesis network: constant, styled convolutions, and the skip sum of toRGB layers."""

    def __init__(self, cfg: GeneratorConfig) -> None:
        super().__init__()
        self.const = nn.Parameter(torch.randn(cfg.channels[0], 4, 4))
        self.convs = nn.ModuleList()
        self.torgbs = nn.ModuleList()
        for b, width in enumerate(cfg.channels):
            res = 4 * 2**b
            if b > 0:
                self.convs.append(StyledConv(cfg.channels[b - 1], width, cfg.w_dim, res, up=True))
            self.convs.append(StyledConv(width, width, cfg.w_dim, res, up=False))
            self.torgbs.append(ToRGB(width, cfg.img_channels, cfg.w_dim))
        self.upsample = UpsampleRGB()

    def layers(self) -> list[tuple[str, StyledConv | ToRGB, int]]:
        """(name, layer, W+ row) in StyleSpace order of use: conv, toRGB, then conv, conv, toRGB per resolution."""
        out: list[tuple[str, StyledConv | ToRGB, int]] = []
        for b, torgb in enumerate(self.torgbs):
            ks = [0] if b == 0 else [2 * b - 1, 2 * b]
            out += [(f"convs.{k}", cast(StyledConv, self.convs[k]), k) for k in ks]
            out.append((f"torgbs.{b}", cast(ToRGB, torgb), 2 * b + 1))
        return out

    def forward(
        self, code: Code, noise: NoiseMode, capture: Sequence[str] = (), rng: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        params = _Weights(code.weights)
        offsets = code.styles or {}
        captured: dict[str, Tensor] = {}
        batch = len(code)
        const, per_sample = params.get(self, "", "const")
        x = const if per_sample else const.expand(batch, -1, -1, -1)
        image: Tensor | None = None
        for name, layer, row in self.layers():
            style = params.style(layer.affine, name, code.w[:, row])
            if name in offsets:
                style = style + offsets[name]
            if isinstance(layer, StyledConv):
                x = layer(x, style, params, name, self._noise(layer, row, code, noise, batch, rng))
                if f"act[{row}]" in capture:
                    captured[f"act[{row}]"] = x
            else:
                rgb = layer(x, style, params, name)
                image = rgb if image is None else self.upsample(image) + rgb
                if f"block[{row - 1}]" in capture:
                    captured[f"block[{row - 1}]"] = x
        assert image is not None
        return image, captured

    @staticmethod
    def _noise(
        layer: StyledConv, k: int, code: Code, mode: NoiseMode, batch: int, rng: torch.Generator | None
    ) -> Tensor | None:
        if code.noise is not None and k in code.noise:
            return code.noise[k]
        if mode == "none":
            return None
        if mode == "const":
            return layer.noise
        shape = (batch, 1, layer.resolution, layer.resolution)
        return torch.randn(shape, generator=rng, device=layer.noise.device, dtype=layer.noise.dtype)


class Generator(nn.Module):
    """A StyleGAN2 generator: ``map(z) -> w``, ``styles(w) -> S``, ``synthesize(code) -> images``.

    ``w_mean`` [w_dim] and the scalar ``w_std`` are statistics of W: w_std^2 is the mean squared distance of w to w_mean,
    summed over the dimensions (the definition of the StyleGAN2 projector).
    """

    w_mean: Tensor
    w_std: Tensor

    def __init__(self, cfg: GeneratorConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.name = f"stylegan2-{cfg.resolution}"
        self.mapping = MappingNetwork(cfg)
        self.synthesis = Synthesis(cfg)
        self.register_buffer("w_mean", torch.zeros(cfg.w_dim))
        self.register_buffer("w_std", torch.zeros(()))
        self.discriminator: Discriminator | None = None
        self._fingerprint: str | None = None

    resolution = property(lambda self: self.cfg.resolution)
    num_ws = property(lambda self: self.cfg.num_ws)
    z_dim = property(lambda self: self.cfg.z_dim)
    w_dim = property(lambda self: self.cfg.w_dim)
    c_dim = property(lambda self: self.cfg.c_dim)
    img_channels = property(lambda self: self.cfg.img_channels)

    @property
    def device(self) -> torch.device:
        return self.w_mean.device

    def map(
        self,
        z: Tensor,
        c: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        """Latents z [B, z_dim] to w [B, num_ws, w_dim].

        ``truncation_psi`` pulls the first ``truncation_cutoff`` rows (all by default) towards ``w_mean``.
        """
        w = self.mapping(z, c)[:, None].expand(-1, self.num_ws, -1)
        if truncation_psi == 1.0:
            return w
        truncated = self.w_mean.lerp(w, truncation_psi)
        if truncation_cutoff is None:
            return truncated
        return torch.cat([truncated[:, :truncation_cutoff], w[:, truncation_cutoff:]], dim=1)

    def styles(self, w: Tensor) -> list[Tensor]:
        """S of w [B, num_ws, w_dim]: one [B, C] per layer in order of use (``style_names``), as the affine gives it."""
        params = _Weights(None)
        return [params.style(layer.affine, name, w[:, row]) for name, layer, row in self.synthesis.layers()]

    @property
    def style_names(self) -> list[str]:
        """Layer names in the order of ``styles``: ``convs.0, torgbs.0, convs.1, convs.2, torgbs.1, ...``."""
        return [name for name, _, _ in self.synthesis.layers()]

    @overload
    def synthesize(
        self, code: Code, noise: NoiseMode = "const", capture: None = None, rng: torch.Generator | None = None
    ) -> Tensor: ...

    @overload
    def synthesize(
        self, code: Code, noise: NoiseMode = "const", *, capture: Sequence[str], rng: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]: ...

    def synthesize(
        self,
        code: Code,
        noise: NoiseMode = "const",
        capture: Sequence[str] | None = None,
        rng: torch.Generator | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Render a code to images [B, C, R, R], about [-1, 1].

        Args:
            noise: ``const`` uses the stored noise maps, ``none`` no noise, ``random`` fresh noise (from ``rng``).
                Noise given in the code wins over all three.
            capture: sites whose features are returned as well: ``act[k]`` after convolution k, ``block[k]`` (even k)
                after the block that ends with it. Returns (images, {site: features}) when given.
        """
        if code.w.shape[1:] != (self.num_ws, self.w_dim):
            raise ValueError(
                f"this generator takes w of shape [batch, {self.num_ws}, {self.w_dim}], got {tuple(code.w.shape)}"
            )
        if capture:
            known = {f"act[{k}]" for k in range(self.cfg.num_convs)}
            known |= {f"block[{k}]" for k in range(0, self.cfg.num_convs, 2)}
            if unknown := sorted(set(capture) - known):
                raise ValueError(f"unknown capture sites {unknown}; this generator has {sorted(known)}")
        image, captured = self.synthesis(code, noise, tuple(capture or ()), rng)
        return (image, captured) if capture is not None else image

    def render(self, code: Code, batch_size: int = 32) -> Tensor:
        """Images of a code of any length, without gradients, in batches, with the stored noise."""
        with torch.inference_mode():
            parts = [self.synthesize(code[i : i + batch_size]) for i in range(0, len(code), batch_size)]
        return torch.cat(parts).clone()

    @torch.no_grad()
    def measure_w(self, samples: int = 10_000, seed: int = 123) -> None:
        """Set ``w_mean`` and ``w_std`` from ``samples`` mapped draws of z (unconditional part of the projector's step 1)."""
        rng = torch.Generator().manual_seed(seed)
        z = torch.randn(samples, self.z_dim, generator=rng).to(self.device)
        c = torch.zeros(samples, self.c_dim, device=self.device) if self.c_dim else None
        w = self.mapping(z, c)
        self.w_mean.copy_(w.mean(0))
        self.w_std.copy_((w - self.w_mean).square().sum(1).mean().sqrt())
        self._fingerprint = None

    @property
    def fingerprint(self) -> str:
        """sha256 over all weights in canonical order: names sorted, float32 little-endian bytes, shapes included."""
        if self._fingerprint is None:
            digest = hashlib.sha256()
            for name, tensor in sorted(self.state_dict().items()):
                if name.startswith(("discriminator.", "w_std")):
                    continue
                digest.update(f"{name}{tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint
