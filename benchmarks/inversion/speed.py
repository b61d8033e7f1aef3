"""Seconds per image of each method, as ratios to the first, in one run on random targets.

python benchmarks/inversion/speed.py --images 8 --methods e4e w-projection w-plus-optimisation pti-w pti
"""

from __future__ import annotations

import argparse
import time

import torch

from ganinv.codes.code import Code
from ganinv.generators.files import open_generator
from ganinv.stages.method import load_method
from ganinv.target import Target


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--generator", default="portraits-64")
    default = ["e4e", "w-projection", "w-plus-optimisation", "pti-w", "pti"]
    parser.add_argument("--methods", nargs="+", default=default)
    args = parser.parse_args()
    g = open_generator(args.generator, "cuda" if torch.cuda.is_available() else "cpu")
    z = torch.randn(args.images, g.z_dim, generator=torch.Generator().manual_seed(0))
    target = Target(g.render(Code(w=g.map(z.to(g.device)))).clamp(-1, 1))
    baseline = None
    print(f"{args.images} images, {g.name}, {g.device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name in args.methods:
        method = load_method(name, g)
        method.invert(target[:1])  # warm-up
        if g.device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        inversion = method.invert(target)
        if g.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = (time.perf_counter() - started) / args.images
        baseline = baseline or seconds
        mse = sum(inversion.metrics["mse"]) / args.images
        print(f"{name:22s} {seconds:8.3f} s/image  {seconds / baseline:7.1f} x {args.methods[0]}  mse {mse:.4f}")


if __name__ == "__main__":
    main()
