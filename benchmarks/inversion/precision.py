"""Methods in bfloat16 against float32, on one processor in one run: processor seconds, and how close the results are.

    python -m benchmarks.inversion.precision e4e sfe pti --images 16

The bar for ``precision: auto`` in a method's file is a distance within 2 %. One thread, so that none waits for another.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Literal

import torch

from benchmarks.inversion.per_image import Clock, targets
from ganinv.generators.files import open_generator
from ganinv.stages.method import load_method
from ganinv.stages.precision import choose_precision


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--samples", action="store_true", help="of the generator, in place of test portraits")
    args = parser.parse_args()
    torch.set_num_threads(1)
    g = open_generator("portraits-64")
    target = targets(g, args.images, args.samples)
    print(f"{args.images} images, one thread; auto is {choose_precision('auto')} here")
    for name in args.methods:
        found: dict[str, tuple[float, float, float]] = {}
        precisions: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
        for precision in precisions:
            method = load_method(name, g, precision=precision)
            method.invert(target[:1])
            clock = Clock(g)
            metrics = method.invert(target).metrics
            found[precision] = clock.seconds(), statistics.fmean(metrics["distance"]), statistics.fmean(metrics["mse"])
        (a, b), (far, close), (mse, own) = zip(*found.values(), strict=True)
        print(
            f"{name:14s} {a / args.images:.3f} and {b / args.images:.3f} s/image: {a / b:.2f} x as fast, "
            f"distance {close / far:.4f} x, mse {own / mse:.4f} x",
            flush=True,
        )


if __name__ == "__main__":
    main()
