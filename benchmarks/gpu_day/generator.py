"""The generator: images per second forward, and with the gradient to its latents, of every batch size and precision."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.generator.synthesis import latents
from benchmarks.gpu_day.bench import Bench, Precision, Size, arithmetic
from ganinv.codes.code import Code
from ganinv.generators.stylegan2 import Generator

PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")


def rates(bench: Bench, size: Size) -> None:
    """A line for each precision, direction and batch size."""
    g = bench.generator(size)
    bandwidth = bench.bandwidth()
    for precision in PRECISIONS:
        for batch in bench.scale.batches:
            w = latents(g, batch)
            for what, run in (("forward", rendered(g, w)), ("forward and backward", differentiated(g, w))):
                about = {"generator": g.name, "precision": precision, "batch": batch, "what": what}
                bench.attempt(about, partial(_rate, bench, g, precision, run, what, batch, bandwidth))


def _rate(
    bench: Bench, g: Generator, precision: Precision, run: Callable[[], object], what: str, batch: int, bandwidth: float
) -> dict[str, Any]:
    with arithmetic(precision), g.computing_in("bfloat16" if precision == "bfloat16" else "float32"):
        with FlopCounterMode(display=False) as counter:
            run()
        bench.forget()
        seconds = bench.seconds(run) / batch
    flop = counter.get_total_flops() / batch
    passes = 2 if what == "forward" else 4
    floor = max(flop / bench.peak(precision), moved_bytes(g, precision, passes) / bandwidth)
    return {
        "images_s": 1 / seconds, "tflop": flop / 1e12, "tflop_s": flop / seconds / 1e12,
        "of_peak": flop / seconds / bench.peak(precision), "of_floor": floor / seconds, **bench.peak_memory(),
    }  # fmt: skip


def rendered(g: Generator, w: Tensor) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with torch.inference_mode():
            return g.synthesize(Code(w=w))

    return run


def differentiated(g: Generator, w: Tensor) -> Callable[[], object]:
    def run() -> object:
        leaf = w.detach().requires_grad_(True)
        return torch.autograd.grad(g.synthesize(Code(w=leaf)).sum(), leaf)

    return run


def activations(g: Generator) -> tuple[int, int]:
    """Elements of the features of one image: of all resolutions, and of those below the highest, which are read to go up."""
    each = [width * (4 * 2**b) ** 2 for b, width in enumerate(g.cfg.channels)]
    return sum(each), sum(each[:-1])


def moved_bytes(g: Generator, precision: Precision, passes: int) -> float:
    """What at least goes through memory for one image, when everything after a convolution is one kernel: each of the two
    convolutions of a resolution three times its features, forward; 3.5 times to the features backward. An estimate (30 %)."""
    features, below = activations(g)
    elements = 6 * features + below + (7 * features + below if passes > 2 else 0)
    return elements * (2 if precision == "bfloat16" else 4)
