"""What extras cost a synthesis: ratios from one run, medians over interleaved rounds.

python benchmarks/synthesis.py --batches 1 4 16 --ranks 2 4 8 16
python benchmarks/synthesis.py --generator config-f-256 --rounds 5
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections.abc import Callable, Sequence
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.code import Code, LowRank
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.files import open_generator
from ganinv.generators.layers import DEMOD_EPS, act, modulated_conv2d
from ganinv.generators.stylegan2 import Generator


def bare(g: Generator, w: Tensor) -> Tensor:
    """The plain forward pass of a skip generator written in one place: no extras, no hooks, no names."""
    net = g.synthesis
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
            rgb = F.conv2d(x_rgb, torgb.weight) + torgb.bias[:, None, None]
            image = rgb if image is None else net.upsample(image) + rgb
    assert image is not None
    return image


def convolutions(g: Generator, batch: int, grouped: bool) -> Callable[[], None]:
    """All 3x3 convolutions of ``g`` on random features, with weights shared by the batch or one per sample."""
    calls = []
    for conv in g.synthesis.convs:
        size = conv.resolution // 2 if conv.up else conv.resolution
        x = torch.randn(batch, conv.weight.shape[1], size, size, device=g.device)
        weight = conv.weight.expand(batch, -1, -1, -1, -1).contiguous() if grouped else conv.weight
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
    for k, conv in enumerate(g.synthesis.convs):
        left = torch.randn(batch, conv.weight.shape[0], rank, device=g.device) * 0.01
        right = torch.randn(batch, rank, conv.weight[0].numel(), device=g.device)
        out[f"convs.{k}.weight"] = LowRank(left, right)
    return out


def low_rank(g: Generator, batch: int, rank: int, rounds: int) -> tuple[Timing, Timing]:
    """Forward, and forward with the gradient to the offsets (``plain``: to w), of three forms of per-sample weights."""
    w = g.map(torch.randn(batch, g.z_dim, generator=torch.Generator().manual_seed(0)).to(g.device))
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
                _wait(device)
                started = clock()
                runs[name]()
                _wait(device)
                if round_:  # the first is a warm-up
                    self.seconds[name].append(clock() - started)

    def ratio(self, name: str, to: str) -> float:
        """The median over the rounds."""
        return median(a / b for a, b in zip(self.seconds[name], self.seconds[to], strict=True))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


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
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    g = _generator(args.generator).to(device)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{args.generator}, {where}, torch {torch.__version__}, float32, median of {args.rounds} rounds")
    print("batch  s/image  plain:bare  plain:bare  grouped:dense  offset:plain  offset:plain")
    print("                   forward   +gradient   convolutions       forward     +gradient")
    for batch in args.batches:
        w = g.map(torch.randn(batch, g.z_dim, generator=torch.Generator().manual_seed(0)).to(device))
        offsets = {
            f"convs.{k}.weight": torch.zeros(batch, *c.weight.shape, device=device)
            for k, c in enumerate(g.synthesis.convs)
        }

        def plain(w: Tensor) -> Tensor:
            return g.synthesize(Code(w=w))

        def inline(w: Tensor) -> Tensor:
            return bare(g, w)

        def tuned(w: Tensor, offsets: dict[str, Tensor] = offsets) -> Tensor:
            return g.synthesize(Code(w=w, weights=offsets))

        torch.testing.assert_close(plain(w), inline(w), atol=1e-4, rtol=1e-4)
        with torch.inference_mode():
            forward = {"plain": lambda w=w: plain(w), "bare": lambda w=w: inline(w), "offset": lambda w=w: tuned(w)}
            forward |= {"dense": convolutions(g, batch, False), "grouped": convolutions(g, batch, True)}
            f = Timing(forward, args.rounds, device)
        renders = {"plain": plain, "bare": inline, "offset": tuned}
        b = Timing({name: with_gradient(render, w) for name, render in renders.items()}, args.rounds, device)
        print(
            f"{batch:5d}  {median(f.seconds['plain']) / batch:7.4f}  {f.ratio('plain', 'bare'):10.3f}  "
            f"{b.ratio('plain', 'bare'):10.3f}  {f.ratio('grouped', 'dense'):13.2f}  "
            f"{f.ratio('offset', 'plain'):12.2f}  {b.ratio('offset', 'plain'):12.2f}"
        )
    if args.ranks:
        print("\nAll 3x3 convolutions with an offset for each sample, against plain; gradients go to the offsets:")
        print("low-rank as it is, multiplied out in the pass, or dense to begin with.")
        print("batch  rank   forward: low-rank, multiplied, dense   +gradient: low-rank, multiplied, dense")
    for batch, rank in itertools.product(args.batches, args.ranks):
        f, b = low_rank(g, batch, rank, args.rounds)
        cells = [t.ratio(name, "plain") for t in (f, b) for name in ("low-rank", "multiplied", "dense")]
        print(f"{batch:5d}  {rank:4d}  " + "".join(f"{c:12.2f}" for c in cells))


def _generator(name: str) -> Generator:
    if not name.startswith("config-f-"):
        return open_generator(name)
    resolution = int(name.removeprefix("config-f-"))
    channels = tuple(min(512, 32768 // (4 * 2**b)) for b in range(resolution.bit_length() - 2))
    torch.manual_seed(0)
    return Generator(GeneratorConfig(resolution=resolution, channels=channels)).eval().requires_grad_(False)


if __name__ == "__main__":
    main()
