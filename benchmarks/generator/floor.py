"""How near the jobs of inversion come to what the device could do: images/s, TFLOP/s, and the share of the floor.

    python -m benchmarks.generator.floor --generator config-f-1024 --batches 1 4 16 64 --precisions float32 bfloat16
    python -m benchmarks.generator.floor --generator config-f-64 --batches 4 --steps 2 --jobs projection --json here.json

Generator, encoder, hypernetwork and VGG16 have random weights: speed does not depend on them. Jobs are those of the GPU queue:
``e4e`` (IR-SE-50 and 18 heads at 256 pixels, then one rendering), ``hyperstyle`` (W encoder and five passes), ``projection``
(500 steps in W, LPIPS-VGG at 256 pixels), ``pti-dense`` and ``pti-low-rank`` (350 steps around a pivot, LPIPS-AlexNet). Steps
are all alike, so a few are timed and multiplied. Operations are counted (FlopCounterMode), not taken from a table; the floor
is that count over the peak that matrix products reach here in the same run. A job that does not fit into memory says so.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.generator.synthesis import device_words, generator_of, wait
from ganinv.codes.code import Code
from ganinv.generators.fast import Mode, fast_path
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.distance import Distance, LpipsDistance, ReducedDistance
from ganinv.methods.e4e import E4e, E4eConfig
from ganinv.methods.hyperstyle import HyperStyle, HyperStyleConfig
from ganinv.methods.w import WEncoder, WEncoderConfig
from ganinv.stages.base import Context
from ganinv.stages.objective import ReconstructionLoss
from ganinv.stages.optimize import NoiseSettings, Optimize
from ganinv.stages.tune import Tune
from ganinv.target import Target

Precision = Literal["float32", "bfloat16"]
INPUT = 256  # pixels that the published encoders read
FULL = {"projection": 500, "pti-dense": 350, "pti-low-rank": 350}
JOBS = ("e4e", "hyperstyle", *FULL)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="config-f-1024", help="config-f-R: random weights at resolution R")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--precisions", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--steps", type=int, default=10, help="timed of each job that has steps")
    parser.add_argument("--rounds", type=int, default=2, help="the fastest counts")
    parser.add_argument(
        "--fast", choices=get_args(Mode), default="off", help="a compiled path (ganinv.generators.fast)"
    )
    parser.add_argument("--json", type=Path, help="append the results to this file, a line each")
    args = parser.parse_args()
    fast_path(args.fast)
    g = generator_of(args.generator)
    print(f"{args.generator}, {device_words(g.device)}, {args.steps} steps timed")
    print("job           precision  batch   s/image   images/s   TFLOP/image   TFLOP/s   of peak")
    for precision in args.precisions:
        peak = peak_flops(g.device, precision)
        for job in args.jobs:
            work = Work(g, job, precision, args.steps, args.rounds)
            for batch in args.batches:
                line = {"job": job, "precision": precision, "batch": batch, **work.measure(batch, peak)}
                print(words(line), flush=True)
                if args.json:
                    about = {"device": device_words(g.device), "generator": args.generator, "peak": peak}
                    with args.json.open("a") as file:
                        file.write(json.dumps({**line, **about, "fast": args.fast}) + "\n")


def words(line: dict[str, Any]) -> str:
    """A row of the table."""
    head = f"{line['job']:<14}{line['precision']:<10}{line['batch']:6d}"
    if "failed" in line:
        return f"{head}   {line['failed']}"
    s, flop = line["seconds"], line["tflop"]
    return f"{head}{s:10.4f}{1 / s:11.2f}{flop:14.3f}{flop / s:10.2f}{line['of_peak']:10.1%}"


class Given(Context):
    """A context with distances that no file holds."""

    def __init__(self, distances: Mapping[str, Distance], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.given = distances

    def distance(self, name: str) -> Distance:
        return self.given[name] if self.precision == "float32" else ReducedDistance(self.given[name], self.device)

    @property
    def device(self) -> str:
        return self.generator.device.type


class Work:
    """One job in one precision."""

    def __init__(self, g: Generator, job: str, precision: Precision, steps: int, rounds: int) -> None:
        self.g, self.precision, self.rounds = g, precision, rounds
        self.steps = steps if job in FULL else 1
        self.repeats = FULL.get(job, 1) / self.steps  # how many times the timed part makes the job
        self.run = {"e4e": self.e4e, "hyperstyle": self.hyperstyle, "projection": self.projection}.get(
            job, lambda: self.pti("low-rank" if job == "pti-low-rank" else "dense")
        )()

    def measure(self, batch: int, peak: float) -> dict[str, Any]:
        """Seconds and operations per image of the whole job."""
        images = torch.rand(batch, 3, self.g.resolution, self.g.resolution, device=self.g.device) * 2 - 1
        target = Target(images)
        try:
            with FlopCounterMode(display=False) as counter:  # counts, and warms up
                self.run(target)
            seconds = min(self._seconds(target) for _ in range(self.rounds)) * self.repeats / batch
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            return {"failed": "does not fit into memory"}
        tflop = counter.get_total_flops() * self.repeats / batch / 1e12
        return {"seconds": seconds, "tflop": tflop, "of_peak": tflop * 1e12 / seconds / peak}

    def _seconds(self, target: Target) -> float:
        wait(self.g.device)
        started = time.perf_counter()
        self.run(target)
        wait(self.g.device)
        return time.perf_counter() - started

    def context(self, distances: Mapping[str, Distance], batch: int = 64) -> Context:
        return Given(distances, self.g, lambda name: None, lanes=batch)  # type: ignore[arg-type,return-value]

    def e4e(self) -> Callable[[Target], object]:
        shape = E4eConfig(resolution=INPUT, num_ws=self.g.num_ws, w_dim=512, backbone="ir-se-50")
        encoder = placed(E4e(shape, self.g), self.g)
        return self._encoding(lambda images: self.g.synthesize(encoder(images)))

    def hyperstyle(self) -> Callable[[Target], object]:
        shapes = {f"convs.{k}": tuple(c.weight.shape) for k, c in enumerate(self.g.synthesis.convs)}  # type: ignore[union-attr,arg-type]
        encoder = placed(WEncoder(WEncoderConfig(num_ws=self.g.num_ws), self.g), self.g)
        config = HyperStyleConfig(layers=shapes, num_ws=self.g.num_ws)  # type: ignore[arg-type]
        invert = placed(HyperStyle(config, self.g, {"w_encoder": encoder}), self.g)
        return self._encoding(lambda images: self.g.synthesize(invert(images)))

    def _encoding(self, invert: Callable[[Tensor], Tensor]) -> Callable[[Target], object]:
        def run(target: Target) -> object:
            with (
                torch.inference_mode(),
                self.g.computing_in(self.precision),
                torch.autocast(self.g.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"),
            ):
                return invert(target.images)

        return run

    def projection(self) -> Callable[[Target], object]:
        context = self.context({"lpips-vgg": random_lpips("vgg", self.g)})
        loss = ReconstructionLoss(distance="lpips-vgg", mse_weight=0.0, distance_resolution=INPUT)
        stage = Optimize(space="w", steps=self.steps, noise_maps=NoiseSettings(), loss=loss)
        return lambda target: self._stage(stage, target, None, context)

    def pti(self, form: Literal["dense", "low-rank"]) -> Callable[[Target], object]:
        context = self.context({"lpips-alex": random_lpips("alex", self.g)})
        stage = Tune(
            steps=self.steps, form=form, loss=ReconstructionLoss(distance="lpips-alex"),
            optimizer="muon" if form == "low-rank" else "adam",
        )  # fmt: skip
        mean = self.g.w_mean.expand(1, self.g.num_ws, -1)
        return lambda target: self._stage(stage, target, Code(w=mean.expand(len(target), -1, -1)), context)

    def _stage(self, stage: Optimize | Tune, target: Target, code: Code | None, context: Context) -> object:
        context.lanes = len(target)
        with context.computing_in(self.precision):
            return stage(target, code, context)


def placed(module: nn.Module, g: Generator) -> Any:
    """Ready to encode, where the generator is."""
    return module.to(g.device).to(memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]


def random_lpips(net: Literal["vgg", "alex"], g: Generator) -> LpipsDistance:
    """LPIPS with a backbone of random weights, at the published shapes."""
    if net == "alex":
        shapes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    else:
        widths = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256}
        widths |= dict.fromkeys((17, 19, 21, 24, 26, 28), 512)
        shapes = {n: (o, i, 3) for (n, o), i in zip(widths.items(), [3, *widths.values()], strict=False)}
    state: dict[str, Tensor] = {}
    for n, (o, i, k) in shapes.items():
        state[f"features.{n}.weight"] = torch.randn(o, i, k, k) * (2 / (i * k * k)) ** 0.5
        state[f"features.{n}.bias"] = torch.zeros(o)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "backbone.pth"
        torch.save(state, path)
        return LpipsDistance(net, g.device, path)


def peak_flops(device: torch.device, precision: Precision) -> float:
    """Operations per second of a large matrix product."""
    n = 8192 if device.type == "cuda" else 1024
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a = torch.randn(n, n, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(4):
        wait(device)
        started = time.perf_counter()
        a @ a
        wait(device)
        best = min(best, time.perf_counter() - started)
    return 2 * n**3 / best


if __name__ == "__main__":
    main()
