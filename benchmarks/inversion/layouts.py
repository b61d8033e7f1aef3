"""Encoders on images whose channels come last in memory, against torch's usual order, by turns in one process.

    python -m benchmarks.inversion.layouts e4e psp hyperstyle            # the networks, batches of 64
    python -m benchmarks.inversion.layouts e4e psp --images 512          # and whole runs of ``ganinv invert``

Seconds are processor seconds of one thread, medians of ``--rounds`` after one that is not counted. Codes are compared too.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import time

import torch
from torch import Tensor

from benchmarks.inversion.throughput import BATCH, samples, timed, write_images
from ganinv.codes.code import Code
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.base import Inverter, with_holes
from ganinv.stages.method import load_method
from ganinv.target import Target


def usual(self: Inverter, images: Tensor, holes: Tensor | None) -> Tensor:
    """``Inverter.as_seen`` without the change of order."""
    return with_holes(images, holes) if self.sees_holes else images


ORDERS: dict[str, Callable[[Inverter, Tensor, Tensor | None], Tensor]] = {"usual": usual, "last": Inverter.as_seen}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+")
    parser.add_argument("--images", type=int, default=0, help="of whole runs; 0 leaves them out")
    parser.add_argument("--measure", action="store_true", help="in whole runs, render and compare each result too")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    g = open_generator()
    target = Target(samples(g, BATCH).contiguous())
    for name in args.methods:
        compare(g, name, target, args)


def compare(g: Generator, name: str, target: Target, args: argparse.Namespace) -> None:
    """Print a method's lines."""
    method, codes = load_method(name, g, batch_size=BATCH), dict[str, Code]()

    def network(order: str) -> float:
        begun = time.process_time()
        codes[order] = method.invert(target, measure=False).code
        return time.process_time() - begun

    old, new = by_turns(network, args.rounds)
    off = float((codes["usual"].w - codes["last"].w).abs().max() / codes["usual"].w.std())
    each = f"{1000 * old / BATCH:6.2f} and {1000 * new / BATCH:6.2f} ms/image"
    print(f"{name:20s} network {each}: {old / new:.2f} x, codes differ by {off:.0e}", flush=True)
    if not args.images:
        return
    with tempfile.TemporaryDirectory() as place:
        folder, number = Path(place, "images"), itertools.count()
        write_images(g, folder, args.images)
        old, new = by_turns(lambda order: timed(name, folder, args, Path(place, str(next(number)))), args.rounds)
    print(
        f"{name:20s} run {args.images / old:7.1f} and {args.images / new:7.1f} images/s: {old / new:.2f} x", flush=True
    )


def by_turns(run: Callable[[str], float], rounds: int) -> tuple[float, float]:
    """Median seconds in the usual order and with channels last."""
    seconds: dict[str, list[float]] = {order: [] for order in ORDERS}
    for number in range(rounds + 1):
        for order, as_seen in ORDERS.items():
            Inverter.as_seen = as_seen  # type: ignore[method-assign, assignment]
            took = run(order)
            if number:
                seconds[order].append(took)
    return statistics.median(seconds["usual"]), statistics.median(seconds["last"])


if __name__ == "__main__":
    main()
