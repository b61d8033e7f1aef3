"""The heads of HyperStyle's hypernetwork (Alaluf et al. 2022, section 3): from vectors to offsets of convolution weights.

Each head is affine in its vector. The offsets of T refinement passes add up. So their sum is the head applied to the summed
vectors ``S``, with its bias taken T times. ``ganinv.codes.parts.HeadCode`` stores these instead of the offsets.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CODE_DIM = 512
Shape = tuple[int, int, int, int]


class KernelHead(nn.Module):
    """The head that all layers of one shape share: ``(S w2 + T b2) w1 + T b1``, a number for every tap of a kernel.

    Args:
        shape: (O, I, k, k) of the weights whose offsets it gives.
    """

    def __init__(self, shape: Shape, code_dim: int = CODE_DIM) -> None:
        super().__init__()
        out_ch, in_ch, height, width = self.shape = shape
        self.w1 = nn.Parameter(torch.randn(code_dim, in_ch * height * width) / 40)
        self.b1 = nn.Parameter(torch.randn(in_ch * height * width) / 40)
        self.w2 = nn.Parameter(torch.randn(code_dim, out_ch * code_dim) / 40)
        self.b2 = nn.Parameter(torch.randn(out_ch * code_dim) / 40)

    def forward(self, code: Tensor, passes: Tensor) -> Tensor:
        """From summed codes [B, D] of ``passes`` [B] passes to the sum of their offsets [B, O, I, k, k]."""
        code, passes = code.to(self.w2.dtype), passes.to(self.w2.dtype)
        rows = (code @ self.w2 + passes[:, None] * self.b2).reshape(len(code), self.shape[0], -1)
        return (rows @ self.w1 + passes[:, None, None] * self.b1).reshape(-1, *self.shape)


class ChannelHead(nn.Module):
    """The head of one layer: ``W S + T b``, one number per pair of channels, the same at all taps of its kernel.

    Args:
        shape: (O, I, k, k) of the weight whose offset it gives.
    """

    def __init__(self, shape: Shape, code_dim: int = CODE_DIM) -> None:
        super().__init__()
        self.shape = shape
        self.linear = nn.Conv2d(code_dim, shape[0] * shape[1], 1)

    def forward(self, code: Tensor, passes: Tensor) -> Tensor:
        """From summed codes [B, D] of ``passes`` [B] passes to the sum of their offsets [B, O, I, k, k]."""
        bias = self.linear.bias
        assert bias is not None
        code, passes = code.to(bias.dtype), passes.to(bias.dtype)
        per_pair = F.linear(code, self.linear.weight.flatten(1)) + passes[:, None] * bias
        return per_pair.reshape(-1, *self.shape[:2], 1, 1).expand(-1, *self.shape)
