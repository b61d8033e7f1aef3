"""The synthesis network of StyleGAN2: constant, styled convolutions, toRGB.

Indices follow the literature: convolution k = 0 .. 2n-4 reads W+ row k, toRGB b = 0 .. n-2 (resolution 4 * 2^b) reads row
2b+1, with n = log2(resolution); there are 2n-2 rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganinv.code import Code, Delta, LowRank
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.layers import FIR, EqualLinear, Upsample, act, modulated_conv2d

NoiseMode = Literal["const", "none", "random"]
RESIDUAL_GAIN = math.sqrt(0.5)


def convs_of(b: int) -> tuple[int, ...]:
    """Indices of the convolutions of resolution ``4 * 2**b``."""
    return (2 * b - 1, 2 * b) if b else (0,)


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

    def __init__(
        self, in_ch: int, out_ch: int, w_dim: int, resolution: int, up: bool, clamp: float | None = None
    ) -> None:
        super().__init__()
        self.affine = EqualLinear(w_dim, in_ch, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_ch, in_ch, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_ch))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", torch.randn(resolution, resolution))
        self.resolution = resolution
        self.up = up
        self.clamp = clamp
        self.fir = FIR(gain=4.0) if up else None

    def forward(
        self, x: Tensor, style: Tensor, params: _Weights, prefix: str, noise: Tensor | None, gain: float = 1.0
    ) -> Tensor:
        weight, _ = params.get(self, prefix, "weight")
        x = modulated_conv2d(x, weight, style, up=self.up, fir=self.fir)
        if noise is not None:
            strength, per_sample = params.get(self, prefix, "noise_strength")
            x = x + (noise * (strength[:, None, None, None] if per_sample else strength)).to(x.dtype)
        return act(x + _channels(*params.get(self, prefix, "bias")).to(x.dtype), gain, self.clamp)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution without demodulation. The weight gain 1/sqrt(C) multiplies the style at run time."""

    def __init__(self, in_ch: int, img_channels: int, w_dim: int, clamp: float | None = None) -> None:
        super().__init__()
        self.affine = EqualLinear(w_dim, in_ch, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(img_channels, in_ch, 1, 1))
        self.bias = nn.Parameter(torch.zeros(img_channels))
        self.weight_gain = 1.0 / math.sqrt(in_ch)
        self.clamp = clamp

    def forward(self, x: Tensor, style: Tensor, params: _Weights, prefix: str) -> Tensor:
        weight, _ = params.get(self, prefix, "weight")
        y = modulated_conv2d(x, weight, style * self.weight_gain, demodulate=False)
        y = y + _channels(*params.get(self, prefix, "bias")).to(y.dtype)
        return y if self.clamp is None else y.clamp(-self.clamp, self.clamp)


def _channels(bias: Tensor, per_sample: bool) -> Tensor:
    return bias[:, :, None, None] if per_sample else bias[:, None, None]


class Skip(nn.Module):
    """The branch past a block of the resnet architecture: 1x1 convolution and 2x upsampling."""

    def __init__(self, in_ch: int, out_ch: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_ch, in_ch, 1, 1))
        self.weight_gain = 1.0 / math.sqrt(in_ch)
        self.upsample = Upsample()

    def forward(self, x: Tensor) -> Tensor:
        return self.upsample(F.conv2d(x, (self.weight * self.weight_gain * RESIDUAL_GAIN).to(x.dtype)))


class Synthesis(nn.Module):
    """The synthesis network: constant, styled convolutions, and the toRGB layers.

    ``torgbs[b]`` (and in the resnet architecture ``skips[b]``) belongs to resolution ``4 * 2**b`` and is None where the
    architecture has none there.
    """

    def __init__(self, cfg: GeneratorConfig) -> None:
        super().__init__()
        self.const = nn.Parameter(torch.randn(cfg.channels[0], 4, 4))
        self.convs = nn.ModuleList()
        self.torgbs = nn.ModuleList()
        self.skips = nn.ModuleList()
        self.fp16_resolution = cfg.fp16_resolution
        for b, width in enumerate(cfg.channels):
            res = 4 * 2**b
            below = cfg.channels[max(b - 1, 0)]
            if b > 0:
                self.convs.append(StyledConv(below, width, cfg.w_dim, res, up=True, clamp=cfg.conv_clamp))
            self.convs.append(StyledConv(width, width, cfg.w_dim, res, up=False, clamp=cfg.conv_clamp))
            torgb = None
            if cfg.architecture == "skip" or res == cfg.resolution:
                torgb = ToRGB(width, cfg.img_channels, cfg.w_dim, clamp=cfg.conv_clamp)
            self.torgbs.append(torgb)  # type: ignore[arg-type]
            if cfg.architecture == "resnet":
                self.skips.append(Skip(below, width) if b else None)  # type: ignore[arg-type]
        self.upsample = Upsample()

    def layers(self) -> list[tuple[str, StyledConv | ToRGB, int]]:
        """(name, layer, W+ row) in StyleSpace order of use: conv, toRGB, then conv, conv, toRGB per resolution."""
        out: list[tuple[str, StyledConv | ToRGB, int]] = []
        for b, torgb in enumerate(self.torgbs):
            out += [(f"convs.{k}", cast(StyledConv, self.convs[k]), k) for k in convs_of(b)]
            if torgb is not None:
                out.append((f"torgbs.{b}", cast(ToRGB, torgb), 2 * b + 1))
        return out

    def forward(
        self,
        code: Code,
        noise: NoiseMode,
        capture: Sequence[str] = (),
        rng: torch.Generator | None = None,
        half: bool = False,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        params = _Weights(code.weights)
        offsets = code.styles or {}
        captured: dict[str, Tensor] = {}
        batch = len(code)

        def style(layer: StyledConv | ToRGB, name: str, row: int) -> Tensor:
            s = params.style(layer.affine, name, code.w[:, row])
            return s + offsets[name] if name in offsets else s

        const, per_sample = params.get(self, "", "const")
        x = const if per_sample else const.expand(batch, -1, -1, -1)
        image: Tensor | None = None
        for b, torgb in enumerate(self.torgbs):
            if half and 4 * 2**b >= self.fp16_resolution:
                x = x.half()
            skip = self.skips[b](x) if self.skips and b else None
            for k in convs_of(b):
                conv, name = cast(StyledConv, self.convs[k]), f"convs.{k}"
                gain = RESIDUAL_GAIN if skip is not None and k % 2 == 0 else 1.0
                x = conv(x, style(conv, name, k), params, name, self._noise(conv, k, code, noise, batch, rng), gain)
                if f"act[{k}]" in capture:
                    captured[f"act[{k}]"] = x
            if skip is not None:
                x = x + skip
            if torgb is not None:
                rgb = torgb(x, style(cast(ToRGB, torgb), f"torgbs.{b}", 2 * b + 1), params, f"torgbs.{b}")
                rgb = rgb.float() if rgb.dtype == torch.float16 else rgb
                image = rgb if image is None else self.upsample(image) + rgb
            if f"block[{2 * b}]" in capture:
                captured[f"block[{2 * b}]"] = x
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
