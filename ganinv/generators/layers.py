"""The building blocks of StyleGAN2 (Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN").

Pure PyTorch: nothing here compiles at import or at use. Shapes are NCHW throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganinv.codes.parts import LowRank
from ganinv.generators import low_rank
from ganinv.generators.padding import frame
from ganinv.generators.pointwise import pointwise

LRELU_SLOPE = 0.2
ACT_GAIN = math.sqrt(2.0)
DEMOD_EPS = 1e-8


def act(x: Tensor, gain: float = 1.0, clamp: float | None = None) -> Tensor:
    """Leaky ReLU with slope 0.2, scaled by sqrt(2) so that unit variance goes in and about unit variance comes out.

    ``gain`` scales further; ``clamp`` limits the magnitude, and is scaled with it (StyleGAN2-ADA).
    """
    x = F.leaky_relu(x, LRELU_SLOPE).mul_(ACT_GAIN * gain)
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


def as_dtype(x: Tensor, dtype: torch.dtype) -> Tensor:
    """``x.to(dtype)``, without a call into torch in the usual case: a pass has dozens of them, a microsecond each."""
    return x if x.dtype == dtype else x.to(dtype)


def normalize_2nd_moment(x: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Scale ``x`` to unit mean square along ``dim`` (the mapping network's input normalisation)."""
    return x * (x.square().mean(dim=dim, keepdim=True) + eps).rsqrt()


def _low_pass(gain: float) -> Tensor:
    """[4, 4] of sum ``gain``: the outer product of [1, 3, 3, 1] with itself. Every layer has one: it is one call of torch's."""
    taps = (1.0, 3.0, 3.0, 1.0)
    return torch.tensor([[a * b / 64.0 * gain for b in taps] for a in taps])


class FIR(nn.Module):
    """The separable [1, 3, 3, 1] low-pass filter, as a depthwise 4x4 convolution.

    ``gain`` multiplies the unit-sum kernel: 4 after a stride-2 transposed convolution (which inserts zeros), 1 elsewhere.
    """

    kernel: Tensor

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("kernel", _low_pass(gain), persistent=False)

    def forward(self, x: Tensor, padding: int | tuple[int, int] = 0, stride: int = 1) -> Tensor:
        channels = x.shape[1]
        weight = as_dtype(self.kernel, x.dtype)[None, None].expand(channels, 1, 4, 4)
        return F.conv2d(x, weight, padding=padding, stride=stride, groups=channels)


class Upsample(nn.Module):
    """Double the size of an image or of features: zero insertion, then the FIR filter with gain 4 and pads (2, 1)."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", _low_pass(4.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        weight = as_dtype(self.kernel, x.dtype)[None, None].expand(channels, 1, 4, 4)
        # A transposed convolution is the zero insertion and the filter at once; padding 1 gives exactly 2H.
        return F.conv_transpose2d(x, weight, stride=2, padding=1, groups=channels)


class EqualLinear(nn.Module):
    """Linear layer with equalised learning rate: weights are stored as N(0, 1) / lr_mul and scaled at run time.

    Args:
        lr_mul: learning-rate multiplier, applied to weight and bias (0.01 in the mapping network, 1 elsewhere).
        bias_init: initial value of the effective bias (1 in the style affines).
    """

    def __init__(
        self, in_dim: int, out_dim: int, *, lr_mul: float = 1.0, bias_init: float = 0.0, activate: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_dim, in_dim).div_(lr_mul))
        self.bias = nn.Parameter(torch.full((out_dim,), bias_init / lr_mul))
        self.weight_gain = lr_mul / math.sqrt(in_dim)
        self.bias_gain = lr_mul
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)
        return act(y) if self.activate else y


class EqualConv2d(nn.Module):
    """Convolution with equalised learning rate (discriminator)."""

    def __init__(
        self, in_ch: int, out_ch: int, kernel: int, *, bias: bool = True, activate: bool = True, down: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_ch, in_ch, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_ch)) if bias else None
        self.weight_gain = 1.0 / math.sqrt(in_ch * kernel * kernel)
        self.kernel = kernel
        self.activate = activate
        self.down = down
        self.fir = FIR() if down else None

    def forward(self, x: Tensor) -> Tensor:
        # As in after_convolution, the gain of the activation is taken before it.
        gain = ACT_GAIN if self.activate else 1.0
        weight = self.weight * (self.weight_gain * gain)
        bias = None if self.bias is None else self.bias * gain
        if self.fir is not None:
            if self.kernel == 1:  # filter and drop first: the 1x1 convolution then sees a quarter of the pixels
                y = F.conv2d(self.fir(x, padding=1, stride=2), weight, bias)
            else:
                y = F.conv2d(self.fir(x, padding=2), weight, bias, stride=2)
        else:
            y = F.conv2d(x, weight, bias, padding=self.kernel // 2)
        return F.leaky_relu(y, LRELU_SLOPE) if self.activate else y


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    *,
    demodulate: bool = True,
    up: bool = False,
    fir: FIR | None = None,
    ring: Tensor | None = None,
    offset: LowRank | None = None,
    then: Callable[[Tensor, Tensor | None], Tensor] | None = None,
) -> Tensor:
    """Modulated convolution, for shared or per-sample weights (StyleGAN2, section 2.2).

    Args:
        x: [B, I, H, W].
        weight: [O, I, k, k] shared by the batch, or [B, O, I, k, k] per sample.
        style: [B, I], the scale of each input channel.
        demodulate: divide each output channel by the L2 norm of its modulated weight.
        up: stride-2 transposed convolution followed by ``fir``: the output is [B, O, 2H, 2W].
        ring: [B or 1, I, 4(H+1)], the pixels around the modulated input in place of zeros (PadInv, Bai et al. 2022):
            not modulated themselves, demodulated with the rest. Not with ``up``.
        offset: low-rank, to a shared ``weight``: left [B or 1, O, r], right [B or 1, r, I*k*k].
        then: (output of the convolution, demodulation [B, O]) -> result, in place of filter and demodulation.

    Shared weights take the dense form (scale the input, one ordinary convolution, scale the output): it needs no
    per-sample weight and its backward pass no weight gradient when the weight is frozen. A low-rank ``offset`` is applied
    beside it. Per-sample weights are convolved one by one or in groups. All are the same function; a test holds them equal.
    """
    assert offset is None or weight.ndim == 4
    in_ch = style.shape[1]
    kernel = weight.shape[-1]
    reduced = x.dtype != weight.dtype
    if reduced and demodulate:
        # Demodulation cancels any scale of weight and style; near one, no product of the two leaves the range of float16.
        largest = style.abs().amax(dim=1, keepdim=True)
        size = weight.abs().amax(dim=(-3, -2, -1), keepdim=True) * math.sqrt(in_ch * kernel * kernel)
        weight = weight / size
        if offset is not None:
            offset = LowRank(offset.left / size[..., 0, 0], offset.right)
        style, ring = style / largest, None if ring is None else ring / largest[:, :, None]
    demod = None
    if demodulate:
        if weight.ndim == 4:
            power = weight.square().sum(dim=(2, 3))  # [O, I]
            power = style.square() @ power.t()
            if offset is not None:
                power = (power + low_rank.added_power(weight, offset, style)).clamp(min=0)  # rounding
            demod = (power + DEMOD_EPS).rsqrt()
        else:
            power = weight.square().sum(dim=(3, 4))  # [B, O, I]
            demod = (torch.einsum("boi,bi->bo", power, style.square()) + DEMOD_EPS).rsqrt()
    if reduced:
        weight, style, demod = weight.to(x.dtype), style.to(x.dtype), None if demod is None else demod.to(x.dtype)
    x = x * style[:, :, None, None]
    padding = kernel // 2
    if ring is not None:
        x, padding = frame(x, ring), 0
    if kernel == 1:
        y = pointwise(x, weight[..., 0, 0])
    elif weight.ndim == 4:
        y = convolve(x, weight, padding, up)
    else:
        y = (one_by_one if x.device.type == "cpu" else grouped)(x, weight, padding, up)
    if offset is not None:
        y = low_rank.add_conv(y, x, low_rank.cast(offset, x.dtype), kernel, padding, up)
    if then is not None:
        return then(y, demod)
    if up:
        assert fir is not None
        y = fir(y, padding=1)
    if demod is None:
        return y
    return y * demod[:, :, None, None]


def after_convolution(
    y: Tensor,
    demod: Tensor | None,
    noise: Tensor | None,
    bias: Tensor,
    fir: FIR | None,
    gain: float = 1.0,
    clamp: float | None = None,
) -> Tensor:
    """What follows a modulated convolution; ``fast.after_convolution`` is the same in one kernel.

    Args:
        y: [B, O, H, W]; with ``fir`` [B, O, H + 1, W + 1].
        demod: [B, O], or None where ``y`` is demodulated, as it is filtered without ``fir``.
        noise: to be added, broadcast to [B, O, H, W].
        bias: [O] or [B, O].
        gain, clamp: as in ``act``.
    """
    if fir is not None:
        y = fir(y, padding=1)
    # A leaky ReLU commutes with positive factors. So its gain goes into what is added and multiplied, most of which is small,
    # and the features are read and written twice in place of five times.
    scale = ACT_GAIN * gain
    added = as_dtype(bias * scale, y.dtype).reshape(-1, y.shape[1], 1, 1)
    last = None
    if noise is not None:
        noise = as_dtype(noise * scale, y.dtype)
        if len(y) == 1:  # with the bias it would be as large as the features
            last = noise
        else:
            added = added + noise
            if y.is_contiguous(memory_format=torch.channels_last):  # the sum takes the layout of its first tensor
                added = added.contiguous(memory_format=torch.channels_last)
    if demod is None:
        y = torch.add(added, y, alpha=scale)
    else:
        y = torch.addcmul(added, y, as_dtype(demod * scale, y.dtype)[:, :, None, None])
    learning = torch.is_grad_enabled()
    if last is not None:
        y = y + last if learning else y.add_(last)
    y = F.leaky_relu(y, LRELU_SLOPE) if learning else F.leaky_relu_(y, LRELU_SLOPE)
    return y if clamp is None else y.clamp(-clamp * gain, clamp * gain)


def convolve(x: Tensor, weight: Tensor, padding: int, up: bool) -> Tensor:
    """[B, I, H, W] with one weight [O, I, k, k]; ``up`` is the transposed convolution of stride 2, without a flip."""
    if up:
        return F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    return F.conv2d(x, weight, padding=padding)


def one_by_one(x: Tensor, weight: Tensor, padding: int, up: bool) -> Tensor:
    """Each image with its own weight [B, O, I, k, k]. On a CPU groups cost 1.5 times as much, and five times with ``up``."""
    return torch.cat([convolve(x[k : k + 1], weight[k], padding, up) for k in range(len(x))])


def grouped(x: Tensor, weight: Tensor, padding: int, up: bool) -> Tensor:
    """``one_by_one`` as a single convolution, for devices on which its many small ones would take longer to start than to run."""
    batch, out_ch, in_ch, kernel, _ = weight.shape
    flat = x.reshape(1, batch * in_ch, *x.shape[2:])
    if up:  # conv_transpose2d wants [B * I, O, k, k]
        y = F.conv_transpose2d(flat, weight.transpose(1, 2).reshape(-1, out_ch, kernel, kernel), stride=2, groups=batch)
    else:
        y = F.conv2d(flat, weight.reshape(-1, in_ch, kernel, kernel), padding=padding, groups=batch)
    return y.reshape(batch, out_ch, *y.shape[2:])
