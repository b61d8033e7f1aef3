"""The fast path of the synthesis against the plain one, on whatever device is there.

    python -m benchmarks.fast_path --generator config-f-256 --batches 1 4

It is off by default until a GPU has been measured: run this there (config-f-256 and config-f-1024) and turn it on in
``ganinv/generators/fast.py`` if both ratios of the last line are below 0.95 for both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.synthesis import Timing, device_words, generator_of, latents, with_gradient
from ganinv.code import Code
from ganinv.generators.fast import Mode, fast_path
from ganinv.generators.stylegan2 import Generator


def render(g: Generator, mode: Mode) -> Callable[[Tensor], Tensor]:
    def run(w: Tensor) -> Tensor:
        fast_path(mode)
        return g.synthesize(Code(w=w))

    return run


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="portraits-64", help="a generator, or config-f-R with random weights")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    g = generator_of(args.generator)
    print(f"{args.generator}, {device_words(g.device)}, median of {args.rounds} rounds (quartiles)")
    print("batch  compile s  fast:plain forward      +gradient")
    ratios = []
    for batch in args.batches:
        w = latents(g, batch)
        plain, fast = render(g, "off"), render(g, "compile")
        started = time.perf_counter()
        with_gradient(fast, w)()
        with torch.inference_mode():
            image = fast(w)
            compiling = time.perf_counter() - started
            if fast_path() == "off":
                raise SystemExit("there is no fast path here: see the warning above")
            torch.testing.assert_close(image, plain(w), atol=1e-3, rtol=1e-3)
            forward = Timing({"plain": partial(plain, w), "fast": partial(fast, w)}, args.rounds, g.device)
        both = Timing({"plain": with_gradient(plain, w), "fast": with_gradient(fast, w)}, args.rounds, g.device)
        print(
            f"{batch:5d}  {compiling:9.1f}  {forward.quartiles('fast', 'plain'):<22}  {both.quartiles('fast', 'plain')}"
        )
        ratios.append((forward.ratio("fast", "plain"), both.ratio("fast", "plain")))
    first, second = (statistics.geometric_mean(column) for column in zip(*ratios, strict=True))
    print(
        f"for the GPU queue: {args.generator} on {device_words(g.device)}: fast:plain {first:.2f} forward, "
        f"{second:.2f} with gradient"
    )


if __name__ == "__main__":
    main()
