"""What extras cost a synthesis: ratios from one run, medians over interleaved rounds.

``plain:bare`` is ``synthesize`` without extras against the forward pass written in one place; its limit is 1.02. Beside it
stands ``bare:bare``, the same measurement of one thing against itself: what lies within its quartiles is noise.

    python -m benchmarks.generator.synthesis --batches 1 4 16 --ranks 2 4 8 16
    python -m benchmarks.generator.synthesis --generator config-f-256 --rounds 5
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median, quantiles
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.codes.code import Code, LowRank
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.files import open_generator
from ganinv.generators.layers import DEMOD_EPS, act, modulated_conv2d
from ganinv.generators.pointwise import pointwise
from ganinv.generators.stylegan2 import Generator


def generator_of(name: str) -> Generator:
    """A generator on the device there is; ``config-f-R`` has random weights."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if not name.startswith("config-f-"):
        return open_generator(name, device)
    resolution = int(name.removeprefix("config-f-"))
    channels = tuple(min(512, 32768 // (4 * 2**b)) for b in range(resolution.bit_length() - 2))
    torch.manual_seed(0)
    return Generator(GeneratorConfig(resolution=resolution, channels=channels)).to(device).eval().requires_grad_(False)


def device_words(device: torch.device) -> str:
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return f"{where}, torch {torch.__version__}"


def bare(g: Generator, w: Tensor) -> Tensor:
    """The plain forward pass of a skip generator written in one place: no extras, no hooks, no names."""
    net: Any = g.synthesis  # modules by name, which torch types as tensors or modules
    x, image = net.const.expand(len(w), -1, -1, -1), None
    for k, conv in enumerate(net.convs):
        style = F.linear(w[:, k], conv.affine.weight * conv.affine.weight_gain) + conv.affine.bias
        demod = (style.square() @ conv.weight.square().sum(dim=(2, 3)).t() + DEMOD_EPS).rsqrt()
        x = x * style[:, :, None, None]
        if k % 2:
            x = conv.fir(F.conv_transpose2d(x, conv.weight.transpose(0, 1), stride=2), padding=1)
        else:
            x = F.conv2d(x, conv.weight, padding=1)
        x = x * demod[:, :, None, None] + conv.noise * conv.noise_strength
        x = act(x + conv.bias[:, None, None])
        if k % 2 == 0:
            torgb = net.torgbs[k // 2]
            style = F.linear(w[:, k + 1], torgb.affine.weight * torgb.affine.weight_gain) + torgb.affine.bias
            x_rgb = x * (style * torgb.weight_gain)[:, :, None, None]
            rgb = pointwise(x_rgb, torgb.weight[..., 0, 0]) + torgb.bias[:, None, None]
            image = rgb if image is None else net.upsample(image) + rgb
    assert image is not None
    return image


def convolutions(g: Generator, batch: int, per_sample: bool) -> Callable[[], None]:
    """All 3x3 convolutions of ``g`` on random features, with weights shared by the batch or one per sample."""
    calls = []
    layers: list[Any] = list(g.synthesis.convs)
    for conv in layers:
        size = conv.resolution // 2 if conv.up else conv.resolution
        x = torch.randn(batch, conv.weight.shape[1], size, size, device=g.device)
        weight = conv.weight.expand(batch, -1, -1, -1, -1).contiguous() if per_sample else conv.weight
        calls.append((x, weight, torch.randn(batch, conv.weight.shape[1], device=g.device), conv))

    def run() -> None:
        for x, weight, style, conv in calls:
            modulated_conv2d(x, weight, style, up=conv.up, fir=conv.fir)

    return run


def with_gradient(render: Callable[[Tensor], Tensor], w: Tensor) -> Callable[[], None]:
    def run() -> None:
        leaf = w.detach().requires_grad_(True)
        render(leaf).sum().backward()

    return run


def low_rank_offsets(g: Generator, batch: int, rank: int) -> dict[str, LowRank]:
    """A low-rank offset to every 3x3 convolution, for each sample."""
    out = {}
    layers: list[Any] = list(g.synthesis.convs)
    for k, conv in enumerate(layers):
        left = torch.randn(batch, conv.weight.shape[0], rank, device=g.device) * 0.01
        right = torch.randn(batch, rank, conv.weight[0].numel(), device=g.device)
        out[f"convs.{k}.weight"] = LowRank(left, right)
    return out


def low_rank(g: Generator, batch: int, rank: int, rounds: int) -> tuple[Timing, Timing]:
    """Forward, and forward with the gradient to the offsets (``plain``: to w), of three forms of per-sample weights."""
    w = latents(g, batch)
    factors = low_rank_offsets(g, batch, rank)
    shapes = {name: g.synthesis.get_parameter(name).shape for name in factors}
    whole = {name: offset.dense(shapes[name]) for name, offset in factors.items()}
    leaves = [t for o in factors.values() for t in (o.left, o.right)]

    def factored() -> Tensor:
        return g.synthesize(Code(w=w, weights=factors))

    def dense() -> Tensor:
        return g.synthesize(Code(w=w, weights=whole))

    def multiplied() -> Tensor:
        return g.synthesize(Code(w=w, weights={n: o.dense(shapes[n]) for n, o in factors.items()}))

    def tuning(render: Callable[[], Tensor], leaves: Sequence[Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(render().sum(), leaves)

    with torch.inference_mode():
        torch.testing.assert_close(factored(), dense(), atol=1e-4, rtol=1e-4)
        plain = {"plain": lambda: g.synthesize(Code(w=w))}
        forward = Timing({"low-rank": factored, "dense": dense, "multiplied": multiplied, **plain}, rounds, g.device)
    for leaf in (*leaves, *whole.values()):
        leaf.requires_grad_(True)
    runs = {
        "low-rank": tuning(factored, leaves),
        "multiplied": tuning(multiplied, leaves),
        "dense": tuning(dense, list(whole.values())),
        "plain": with_gradient(lambda w: g.synthesize(Code(w=w)), w),
    }
    return forward, Timing(runs, rounds, g.device)


class Timing:
    """Rounds in which every one of ``runs`` has its turn, in a new order each time.

    On the CPU these are seconds of this process, so that other programs on the machine do not count.
    """

    def __init__(self, runs: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> None:
        self.seconds: dict[str, list[float]] = {name: [] for name in runs}
        clock = time.perf_counter if device.type == "cuda" else time.process_time
        order = random.Random(0)
        for round_ in range(rounds + 1):
            for name in order.sample(list(runs), len(runs)):
                wait(device)
                started = clock()
                runs[name]()
                wait(device)
                if round_:  # the first is a warm-up
                    self.seconds[name].append(clock() - started)

    def ratio(self, name: str, to: str) -> float:
        """The median over the rounds."""
        return median(self._ratios(name, to))

    def quartiles(self, name: str, to: str) -> str:
        low, middle, high = quantiles(self._ratios(name, to), n=4)
        return f"{middle:.3f} ({low:.3f}-{high:.3f})"

    def _ratios(self, name: str, to: str) -> list[float]:
        return [a / b for a, b in zip(self.seconds[name], self.seconds[to], strict=True)]


def wait(device: torch.device) -> None:
    """Wait until a GPU has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def latents(g: Generator, batch: int) -> Tensor:
    return g.map(torch.randn(batch, g.z_dim, generator=torch.Generator().manual_seed(0)).to(g.device))


def print_overhead(g: Generator, batch: int, rounds: int) -> None:
    """``synthesize`` without extras against ``bare``."""
    w = latents(g, batch)
    renders: dict[str, Callable[[Tensor], Tensor]] = {
        "plain": lambda w: g.synthesize(Code(w=w)),
        "bare": partial(bare, g),
        "bare again": partial(bare, g),
    }
    torch.testing.assert_close(renders["plain"](w), renders["bare"](w), atol=1e-4, rtol=1e-4)
    with torch.inference_mode():
        forward = Timing({name: partial(render, w) for name, render in renders.items()}, rounds, g.device)
    both = Timing({name: with_gradient(render, w) for name, render in renders.items()}, rounds, g.device)
    for what, timing in (("forward", forward), ("+gradient", both)):
        print(
            f"{batch:5d}  {what:<10}{median(timing.seconds['plain']) / batch:9.4f}  "
            f"{timing.quartiles('plain', 'bare'):<22}  {timing.quartiles('bare again', 'bare')}"
        )


def print_offsets(g: Generator, batch: int, rounds: int) -> None:
    """Weights of one's own for every sample against shared ones."""
    w = latents(g, batch)
    offsets = {
        f"convs.{k}.weight": torch.zeros(batch, *c.weight.shape, device=g.device)  # type: ignore[misc,union-attr]
        for k, c in enumerate(g.synthesis.convs)
    }
    renders = {
        "plain": lambda w: g.synthesize(Code(w=w)),
        "offset": lambda w: g.synthesize(Code(w=w, weights=offsets)),
    }
    with torch.inference_mode():
        runs: dict[str, Callable[[], object]] = {name: partial(render, w) for name, render in renders.items()}
        runs |= {"dense": convolutions(g, batch, False), "each": convolutions(g, batch, True)}
        f = Timing(runs, rounds, g.device)
    b = Timing({name: with_gradient(render, w) for name, render in renders.items()}, rounds, g.device)
    print(
        f"{batch:36d}  {f.ratio('each', 'dense'):27.2f}  {f.ratio('offset', 'plain'):20.2f}  "
        f"{b.ratio('offset', 'plain'):9.2f}"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="portraits-64", help="a generator, or config-f-R with random weights")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument(
        "--ranks", type=int, nargs="*", default=[4, 8], help="of low-rank offsets; none: leave them out"
    )
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    g = generator_of(args.generator)
    print(f"{args.generator}, {device_words(g.device)}, float32, median of {args.rounds} rounds (quartiles)")
    print("\nbatch              s/image  plain:bare              bare:bare")
    for batch in args.batches:
        print_overhead(g, batch, args.rounds)
    print("\nWeights per sample, as ratios: batch     each:dense convolutions  offset:plain forward  +gradient")
    for batch in args.batches:
        print_offsets(g, batch, args.rounds)
    if args.ranks:
        print("\nAll 3x3 convolutions with an offset for each sample, against plain; gradients go to the offsets:")
        print("low-rank as it is, multiplied out in the pass, or dense to begin with.")
        print("batch  rank   forward: low-rank, multiplied, dense   +gradient: low-rank, multiplied, dense")
    for batch, rank in itertools.product(args.batches, args.ranks):
        f, b = low_rank(g, batch, rank, args.rounds)
        cells = [t.ratio(name, "plain") for t in (f, b) for name in ("low-rank", "multiplied", "dense")]
        print(f"{batch:5d}  {rank:4d}  " + "".join(f"{c:12.2f}" for c in cells))


if __name__ == "__main__":
    main()
