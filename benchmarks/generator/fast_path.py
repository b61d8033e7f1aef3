"""The fast path of the synthesis against the plain one, on whatever device is there.

    python -m benchmarks.generator.fast_path --generator config-f-256 --batches 1 4
    python -m benchmarks.generator.fast_path --methods pti-w pti --images 16    whole methods, compiled steps: processor seconds
    python -m benchmarks.generator.fast_path --methods pti --cold               and how long compiling takes, with nothing kept

It is off by default until a GPU has been measured: run this there (config-f-256 and config-f-1024) and turn it on in
``ganinv/generators/fast.py`` if both ratios of the last line are below 0.95 for both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from benchmarks.generator.synthesis import Timing, device_words, generator_of, latents, with_gradient
from benchmarks.inversion.per_image import Clock, targets
from ganinv.codes.code import Code
from ganinv.generators.fast import Mode, fast_path
from ganinv.generators.stylegan2 import Generator
from ganinv.stages.method import load_method


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
    parser.add_argument("--methods", nargs="+", default=[], help="compare compiled steps of these methods instead")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument(
        "--cold", action="store_true", help="of --methods: compile with an empty folder of kept results"
    )
    args = parser.parse_args()
    g = generator_of(args.generator)
    if args.methods:
        with TemporaryDirectory() as empty:
            if args.cold:
                os.environ["TORCHINDUCTOR_CACHE_DIR"] = empty
            steps(g, args.methods, args.images)
        return
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


def steps(g: Generator, methods: Sequence[str], images: int) -> None:
    """Plain : compiled steps, each method twice in each mode; the second time counts, the first one compiles."""
    target = targets(g, images, samples=True)
    for name in methods:
        first: dict[Mode, float] = {}
        seconds: dict[Mode, float] = {}
        error: dict[Mode, float] = {}
        same: dict[Mode, bool] = {}
        for mode in ("off", "step"):
            fast_path(mode)
            method = load_method(name, g)
            started = time.perf_counter()
            method.invert(target)
            first[mode] = time.perf_counter() - started
            clock = Clock(g)
            inversion = method.invert(target)
            seconds[mode] = clock.seconds()
            some = method.invert(target[: max(1, images // 3)])
            if fast_path() != mode:
                raise SystemExit("there is no fast path here: see the warning above")
            error[mode] = statistics.fmean(inversion.metrics["distance"])
            same[mode] = torch.equal(some.code.w, inversion.code.w[: len(some.ids)])
        print(
            f"{name:20s} plain {seconds['off'] / images:.3f} s/image, compiled {seconds['step'] / images:.3f} "
            f"({seconds['step'] / seconds['off']:.2f} x); compiling took {first['step'] - first['off']:.0f} s; "
            f"distance {error['off']:.5f}, {error['step']:.5f}; "
            f"a third of the images has equal bits: plain {same['off']}, compiled {same['step']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
