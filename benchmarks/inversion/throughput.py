"""How well encoders use the processor through ``ganinv invert --no-measure``: images per second times operations per image.

    python -m benchmarks.inversion.throughput                          # the encoders of one or a few passes: ten minutes
    python -m benchmarks.inversion.throughput --methods e4e hyperstyle --rounds 3

An encoder that computes more is slower. What it computes is counted (FlopCounterMode, with the renderings between passes), and
each line has the operations per processor second of the whole run, planning, decoding, Parquet and all, beside e4e's. The bar
is at least 90 % of e4e's. Counted are the operations of the network as its layers are written and trained: attention that gets
by with fewer for the same codes (``ganinv.networks.transformer``) would else look slower for being faster. In parentheses are
those that are really computed, and what they give.

The last column is the same of the network alone, on images in memory: where it is as low, the run loses nothing, but the
network has layers that this machine computes more slowly. A run's start is in the others, some half a second: with few images
it is most of what a fast encoder takes (``benchmarks.scale.start`` is about it). One process of one thread; each method runs
once before it is timed. Images are PNGs of 64 pixels that the embedded generator made; seconds are processor seconds, the
median of ``--rounds`` rounds in which the methods take turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ganinv.codes.code import Code
from ganinv.data.png import png_bytes
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.networks.transformer import Attention
from ganinv.stages.method import load_method
from ganinv.target import Target
from tasks.engine import Engine, open_pools
from tasks.sources import DatasetRef
from tasks.steps.invert import InvertJob, run_invert

METHODS = ("e4e", "psp", "lsap", "style-transformer", "in-domain-encoder", "padinv", "sfe", "hfgi", "uda", "e2style", "restyle",
           "interestyle", "hyperstyle", "sam-encoder")  # fmt: skip
BATCH = 64


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--measure", action="store_true", help="render and compare each result too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    methods = list(dict.fromkeys(["e4e", *args.methods]))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "images")
        write_images(open_generator(), folder, args.images)
        for method in methods:
            timed(method, folder, args, Path(place, method))
        seconds: dict[str, list[float]] = {method: [] for method in methods}
        for number in range(args.rounds):
            for method in methods:
                seconds[method].append(timed(method, folder, args, Path(place, f"{method}-{number}")))
    took = {method: statistics.median(each) for method, each in seconds.items()}
    operations = {
        method: (counted(method, args.measure, as_trained=True), counted(method, args.measure)) for method in methods
    }
    report(args.images, operations, took, alone(methods, args.images, args.rounds))


def samples(generator: Generator, count: int) -> Tensor:
    """Renderings [count, 3, R, R]."""
    z = torch.randn(count, generator.z_dim, generator=torch.Generator().manual_seed(0))
    return generator.render(Code(w=generator.map(z, truncation_psi=0.8)))


def write_images(generator: Generator, folder: Path, count: int) -> None:
    """Samples of the generator as PNG."""
    folder.mkdir()
    for k, image in enumerate(samples(generator, count)):
        (folder / f"{k:05d}.png").write_bytes(png_bytes(image))


def counted(method: str, measure: bool, as_trained: bool = False) -> float:
    """Floating-point operations per image (twice the multiplications), of attention as it is trained or as it is here."""
    g = open_generator()
    target = Target(samples(g, BATCH))
    opened = load_method(method, g, batch_size=BATCH)
    for name in opened.cfg.inverters:
        for module in opened.context.inverter(name).modules():
            if isinstance(module, Attention):
                module.train(as_trained)
    with FlopCounterMode(display=False) as counter:
        opened.invert(target, measure=measure)
    return float(counter.get_total_flops()) / BATCH


def timed(method: str, folder: Path, args: argparse.Namespace, out: Path) -> float:
    """Processor seconds of a whole run."""
    fields = {"store": str(out), "dataset": DatasetRef(url=str(folder)), "method": method, "measure": args.measure}
    job = InvertJob.model_validate(fields | {"overrides": {"batch_size": BATCH}})
    begun = time.process_time()
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        result = run_invert(job, pools)
    took = time.process_time() - begun
    assert result["rows"] == args.images, result
    return took


def alone(methods: list[str], images: int, rounds: int) -> dict[str, float]:
    """Processor seconds of each method on images in memory, by turns, the median of ``rounds``."""
    g = open_generator()
    target = Target(samples(g, images))
    opened = {method: load_method(method, g, batch_size=BATCH) for method in methods}
    seconds: dict[str, list[float]] = {method: [] for method in methods}
    for _ in range(rounds):
        for method in methods:
            begun = time.process_time()
            for first in range(0, images, BATCH):  # results go at once: a run does not hold all of them either
                opened[method].invert(target[first : first + BATCH], measure=False)
            seconds[method].append(time.process_time() - begun)
    return {method: statistics.median(each) for method, each in seconds.items()}


def report(
    images: int, operations: dict[str, tuple[float, float]], seconds: dict[str, float], alone: dict[str, float]
) -> None:
    """Print the table."""
    print("method               GFLOP/image (computed)   images/s   of e4e's (computed)   network alone, of e4e's")
    base, bare = operations["e4e"][0] / seconds["e4e"], operations["e4e"][0] / alone["e4e"]
    for method, took in seconds.items():
        counted, computed = operations[method]
        print(
            f"{method:20s}{counted / 1e9:12.2f} {f'({computed / 1e9:.2f})':>11s}{images / took:11.1f}"
            f"{counted / took / base:11.0%} {f'({computed / took / base:.0%})':>11s}{counted / alone[method] / bare:16.0%}"
        )


if __name__ == "__main__":
    main()
