"""The synthesis network of StyleGAN2: constant, styled convolutions, toRGB.

Indices follow the literature: convolution k = 0 .. 2n-4 reads W+ row k, toRGB b = 0 .. n-2 (resolution 4 * 2^b) reads row
2b+1, with n = log2(resolution); there are 2n-2 rows.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganinv.codes.code import Code, LowRank
from ganinv.generators import fast, low_rank
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.extras import Extras, Tap, blend_noise
from ganinv.generators.layers import FIR, EqualLinear, Upsample, after_convolution, as_dtype, modulated_conv2d

NoiseMode = Literal["const", "none", "random"]
Precision = Literal["float32", "native-float16", "bfloat16"]
RESIDUAL_GAIN = math.sqrt(0.5)


class SynthesisState(NamedTuple):
    """A synthesis between two convolutions: everything it needs to continue.

    Args:
        k: the convolution that was done last, and for even k the toRGB of its resolution.
        x: features [B, C, r, r], after the hooks of ``act[k]`` and ``block[k]``.
        image: the sum of the toRGB outputs so far [B, 3, r', r'], float32 or the dtype of the weights; None before the
            first toRGB.
        skip: the branch past the block [B, C, r, r], in the resnet architecture at odd k.
    """

    k: int
    x: Tensor
    image: Tensor | None = None
    skip: Tensor | None = None


class StyledConv(nn.Module):
    """Style -> modulated 3x3 convolution (optionally 2x up) -> noise -> bias -> leaky ReLU."""

    noise: Tensor

    def __init__(
        self, name: str, in_ch: int, out_ch: int, w_dim: int, resolution: int, up: bool, clamp: float | None = None
    ) -> None:
        super().__init__()
        self.name = name
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
        self,
        x: Tensor,
        w: Tensor,
        noise: Tensor | None,
        extras: Extras | None = None,
        ring: Tensor | None = None,
        gain: float = 1.0,
    ) -> Tensor:
        weight: Tensor = self.weight
        offset: LowRank | None = None
        bias: Tensor = self.bias
        strength: Tensor = self.noise_strength
        if extras is not None:
            weight, offset = extras.weight(weight, f"{self.name}.weight")
            bias = extras.parameter(bias, f"{self.name}.bias")
            strength = extras.parameter(strength, f"{self.name}.noise_strength")[..., None, None, None]
        noise = None if noise is None else as_dtype(noise * strength, x.dtype)
        after = fast.after_convolution if fast.fast_path() == "compile" else after_convolution
        return modulated_conv2d(
            x, weight, style_of(self, w, extras), up=self.up, ring=ring, offset=offset,
            then=lambda y, demod: after(y, demod, noise, bias, self.fir, gain, self.clamp),
        )  # fmt: skip


class ToRGB(nn.Module):
    """Modulated 1x1 convolution without demodulation. The weight gain 1/sqrt(C) multiplies the style at run time."""

    def __init__(self, name: str, in_ch: int, img_channels: int, w_dim: int, clamp: float | None = None) -> None:
        super().__init__()
        self.name = name
        self.affine = EqualLinear(w_dim, in_ch, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(img_channels, in_ch, 1, 1))
        self.bias = nn.Parameter(torch.zeros(img_channels))
        self.weight_gain = 1.0 / math.sqrt(in_ch)
        self.clamp = clamp

    def forward(self, x: Tensor, w: Tensor, extras: Extras | None = None) -> Tensor:
        weight: Tensor = self.weight
        bias: Tensor = self.bias
        if extras is not None:
            weight = extras.parameter(weight, f"{self.name}.weight")
            bias = extras.parameter(bias, f"{self.name}.bias")
        y = modulated_conv2d(x, weight, style_of(self, w, extras) * self.weight_gain, demodulate=False)
        y = y + as_dtype(bias, y.dtype)[..., None, None]
        return y if self.clamp is None else y.clamp(-self.clamp, self.clamp)


def style_of(layer: StyledConv | ToRGB, w: Tensor, extras: Extras | None = None) -> Tensor:
    """The layer's style [B, C] for one row of W+ [B, w_dim]."""
    affine = layer.affine
    if extras is None:
        return F.linear(w, affine.weight * affine.weight_gain) + affine.bias
    weight, offset = extras.weight(affine.weight, f"{layer.name}.affine.weight")
    weight = weight * affine.weight_gain
    bias = extras.parameter(affine.bias, f"{layer.name}.affine.bias")
    style = F.linear(w, weight) if weight.ndim == 2 else torch.einsum("boi,bi->bo", weight, w)
    if offset is not None:
        style = style + low_rank.linear(w, offset) * affine.weight_gain
    return extras.style(style + bias, layer.name)


class Skip(nn.Module):
    """The branch past a block of the resnet architecture: 1x1 convolution and 2x upsampling."""

    def __init__(self, name: str, in_ch: int, out_ch: int) -> None:
        super().__init__()
        self.name = name
        self.weight = nn.Parameter(torch.randn(out_ch, in_ch, 1, 1))
        self.weight_gain = RESIDUAL_GAIN / math.sqrt(in_ch)
        self.upsample = Upsample()

    def forward(self, x: Tensor, extras: Extras | None = None) -> Tensor:
        weight: Tensor = self.weight
        offset: LowRank | None = None
        if extras is not None:
            weight, offset = extras.weight(weight, f"{self.name}.weight")
        weight = (weight * self.weight_gain).to(x.dtype)
        if weight.ndim == 4:
            y = F.conv2d(x, weight)
            if offset is not None:
                offset = LowRank(offset.left * self.weight_gain, offset.right)
                y = low_rank.add_conv(y, x, low_rank.cast(offset, x.dtype), kernel=1)
            return self.upsample(y)
        return self.upsample(torch.einsum("bchw,boc->bohw", x, weight[..., 0, 0]))


class Synthesis(nn.Module):
    """The synthesis network: constant, styled convolutions, and the toRGB layers.

    ``torgbs[b]`` (and in the resnet architecture ``skips[b]``) belongs to resolution ``4 * 2**b`` and is None if the
    architecture has none there.
    """

    def __init__(self, cfg: GeneratorConfig) -> None:
        super().__init__()
        self.const = nn.Parameter(torch.randn(cfg.channels[0], 4, 4))
        self.convs = nn.ModuleList()
        self.torgbs = nn.ModuleList()
        self.skips = nn.ModuleList()
        self.fp16_resolution = cfg.fp16_resolution
        clamp = cfg.conv_clamp
        for b, width in enumerate(cfg.channels):
            res = 4 * 2**b
            below = cfg.channels[max(b - 1, 0)]
            if b > 0:
                self.convs.append(StyledConv(f"convs.{2 * b - 1}", below, width, cfg.w_dim, res, up=True, clamp=clamp))
            self.convs.append(StyledConv(f"convs.{2 * b}", width, width, cfg.w_dim, res, up=False, clamp=clamp))
            torgb = None
            if cfg.architecture == "skip" or res == cfg.resolution:
                torgb = ToRGB(f"torgbs.{b}", width, cfg.img_channels, cfg.w_dim, clamp)
            self.torgbs.append(torgb)  # type: ignore[arg-type]
            if cfg.architecture == "resnet":
                self.skips.append(Skip(f"skips.{b}", below, width) if b else None)  # type: ignore[arg-type]
        self.upsample = Upsample()

    def layers(self) -> list[tuple[str, StyledConv | ToRGB, int]]:
        """(name, layer, W+ row) in StyleSpace order of use: conv, toRGB, then conv, conv, toRGB per resolution."""
        out: list[tuple[str, StyledConv | ToRGB, int]] = []
        for k, module in enumerate(self.convs):
            conv = cast(StyledConv, module)
            out.append((conv.name, conv, k))
            if k % 2 == 0 and self.torgbs[k // 2] is not None:
                torgb = cast(ToRGB, self.torgbs[k // 2])
                out.append((torgb.name, torgb, k + 1))
        return out

    def forward(
        self,
        code: Code,
        noise: NoiseMode = "const",
        *,
        start: SynthesisState | None = None,
        stop: int | None = None,
        capture: Collection[str] = (),
        rng: torch.Generator | None = None,
        precision: Precision = "float32",
    ) -> tuple[SynthesisState, dict[str, Tensor]]:
        """The state after convolution ``stop`` (the last one by default) and the captured features.

        ``Generator.synthesize`` is the public function, and checks its arguments.
        """
        w, batch = code.w, len(code)
        extras = None if code.plain else Extras(code)
        tap = Tap(extras.features if extras else {}, capture) if capture or (extras and extras.features) else None
        if start is None:
            x = self.const.expand(batch, -1, -1, -1) if extras is None else extras.const(self.const, batch)
            start = SynthesisState(-1, x)
        done, x, image, skip = start
        stop = len(self.convs) - 1 if stop is None else stop
        convs, torgbs = list(self.convs), list(self.torgbs)
        for k in range(done + 1, stop + 1):
            conv = cast(StyledConv, convs[k])
            if conv.up:
                x = as_dtype(x, self.dtype_at(conv.resolution, precision))
                if self.skips:
                    skip = self.skips[k // 2 + 1](x, extras)
            noises = self._noise(conv, k, noise, batch, extras, rng)
            gain = 1.0 if skip is None or conv.up else RESIDUAL_GAIN
            x = conv(x, w[:, k], noises, extras, extras.ring(k) if extras else None, gain)
            if tap is not None:
                x = tap(f"act[{k}]", x)
            if conv.up:
                continue
            if skip is not None:
                x, skip = x + skip, None
            torgb = torgbs[k // 2]
            if torgb is not None:
                rgb = torgb(x, w[:, k + 1], extras)
                rgb = as_dtype(rgb, self.const.dtype)
                image = rgb if image is None else self.upsample(image) + rgb
                image = image if tap is None else tap.image(k, image)
            if tap is not None:
                x = tap(f"block[{k}]", x)
        return SynthesisState(stop, x, image, skip), {} if tap is None else tap.captured

    def dtype_at(self, resolution: int, precision: Precision) -> torch.dtype:
        """What the features of a resolution are computed in."""
        if precision == "bfloat16" and resolution > 4:
            return torch.bfloat16
        if precision == "native-float16" and resolution >= self.fp16_resolution:
            return torch.float16
        return self.const.dtype

    @staticmethod
    def _noise(
        conv: StyledConv, k: int, mode: NoiseMode, batch: int, extras: Extras | None, rng: torch.Generator | None
    ) -> Tensor | None:
        """What is added to the output of convolution k, before its strength: [r, r] or [B or 1, 1, r, r]."""
        given = None if extras is None else extras.given_noise(k)
        if given is not None and given.mask is None:
            return given.value
        own = conv.noise if mode == "const" else None
        if mode == "random":
            shape = (batch, 1, conv.resolution, conv.resolution)
            own = torch.randn(shape, generator=rng, device=conv.noise.device, dtype=conv.noise.dtype)
        return own if given is None else blend_noise(own, given)
