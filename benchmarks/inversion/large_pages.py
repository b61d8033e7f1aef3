"""Methods with large pages of memory (torch's ``THP_MEM_ALLOC_ENABLE=1``) and without: processor seconds, system's included.

    python -m benchmarks.inversion.large_pages e4e sfe --images 256

Each measurement is a process of its own with one thread, in turns; the results must be equal to the bit.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys

import torch

from benchmarks.inversion.per_image import targets
from ganinv.generators.files import open_generator
from ganinv.stages.method import load_method

LARGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""Of torch: large tensors are aligned to pages of 2 MiB, and the kernel is asked for such pages."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--here", action="store_true", help="one method in this process, as it is; prints JSON")
    args = parser.parse_args()
    if args.here:
        print(json.dumps(measured(args.methods[0], args.images)))
        return
    for name in args.methods:
        ratios, errors, peaks = [], set(), []
        for _ in range(args.rounds):
            small, large = (in_a_process(name, args.images, choice) for choice in "01")
            ratios.append(small["seconds"] / large["seconds"])
            errors |= {small["mse"], large["mse"]}
            peaks.append(large["peak"] / small["peak"])
        if len(errors) != 1:
            raise SystemExit(f"{name}: results differ: {sorted(errors)}")
        low, high = min(ratios), max(ratios)
        print(
            f"{name:14s} {statistics.median(ratios):.2f} x as fast ({low:.2f} to {high:.2f}), peak memory "
            f"{statistics.median(peaks):.2f} x, equal results",
            flush=True,
        )


def in_a_process(name: str, images: int, choice: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.inversion.large_pages", name, "--images", str(images), "--here"]
    done = subprocess.run(
        command, env={**os.environ, LARGE_PAGES: choice}, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def measured(name: str, images: int) -> dict[str, float]:
    """Processor seconds of inverting test portraits, their summed error, and MiB at most."""
    torch.set_num_threads(1)
    g = open_generator("portraits-64")
    target = targets(g, images)
    method = load_method(name, g)
    method.invert(target[:1])
    before = resource.getrusage(resource.RUSAGE_SELF)
    metrics = method.invert(target).metrics
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "mse": sum(metrics["mse"]), "peak": after.ru_maxrss / 1024}


if __name__ == "__main__":
    main()
