"""What follows a convolution, as one compiled kernel (Triton's on a GPU) and as the plain sequence of operations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_day.bench import Bench, published_shape
from ganinv.generators import fast, layers

Function = Callable[..., Tensor]


def after_convolution(bench: Bench) -> None:
    """Filter, demodulation, noise, bias, activation, clamp at the sizes of the large generator: forward and backward."""
    shape = published_shape(bench.scale.large, bench.scale.widest)
    sizes = [(4 * 2**b, width) for b, width in enumerate(shape.channels)][1:]
    batch = min(8, bench.scale.batches[-1])
    for dtype in (getattr(torch, name) for name in bench.scale.fused):
        for side, width in sizes[:: max(1, len(sizes) // 4)]:
            about = {"side": side, "channels": width, "batch": batch, "dtype": str(dtype).removeprefix("torch.")}
            bench.attempt(about, partial(_compared, bench, side, width, batch, dtype))


def _compared(bench: Bench, side: int, width: int, batch: int, dtype: torch.dtype) -> dict[str, Any]:
    torch.manual_seed(0)
    fir = layers.FIR(gain=4.0).to(bench.device)
    y = torch.randn(batch, width, side + 1, side + 1, device=bench.device, dtype=dtype)
    demod = torch.rand(batch, width, device=bench.device, dtype=dtype) + 0.5
    noise = torch.randn(side, side, device=bench.device, dtype=dtype)
    bias = torch.randn(width, device=bench.device)

    def run(function: Function, leaf: Tensor) -> Tensor:
        return function(leaf, demod, noise, bias, fir, 1.0, None)

    def forward(function: Function) -> Callable[[], object]:
        return lambda: run(function, y)

    def both(function: Function) -> Callable[[], object]:
        leaf = y.clone().requires_grad_(True)
        return lambda: torch.autograd.grad(run(function, leaf).sum(), leaf)

    plain, fused = layers.after_convolution, fast.after_convolution
    with torch.no_grad():
        compiling = bench.once(forward(fused))
        off = float((run(fused, y).float() - run(plain, y).float()).abs().max())
        times = {name: bench.seconds(forward(f)) for name, f in (("plain", plain), ("fused", fused))}
    gradients = {name: bench.seconds(both(f)) for name, f in (("plain", plain), ("fused", fused))}
    moved = 2 * y.numel() * y.element_size()
    return {
        "compiling_s": compiling, "largest_difference": off, "forward": times["fused"] / times["plain"],
        "forward_and_backward": gradients["fused"] / gradients["plain"],
        "fused_gb_s": moved / times["fused"] / 1e9, "plain_gb_s": moved / times["plain"] / 1e9,
    }  # fmt: skip
