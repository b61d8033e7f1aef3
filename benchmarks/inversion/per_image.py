"""Per-image optimisation and tuning against what the public implementations do, as ratios within one run.

    python -m benchmarks.inversion.per_image projection            16 images, 200 steps, batched : one at a time
    python -m benchmarks.inversion.per_image pti                   the default : the paper's procedure, one image at a time
    python -m benchmarks.inversion.per_image edits                 low rank : dense : untuned, how far edits move the score
    python -m benchmarks.inversion.per_image memory                peak memory by batch size, and over 1,000 images

Images are test portraits of ``$GANINV_SHARED`` (default ../shared), or samples of the generator with ``--samples``.
Seconds are processor seconds (all threads), which other programs on the machine disturb least.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.inversion.reference import project, tune
from ganinv.codes.code import Code
from ganinv.data import open_dataset
from ganinv.directions.direction import Direction
from ganinv.directions.fitting.interfacegan import fit_interfacegan
from ganinv.generators.files import open_generator
from ganinv.generators.sampling import sample_z
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import Labeller, open_labeller
from ganinv.losses.distance import between, open_distance
from ganinv.methods.files import open_inverter
from ganinv.stages.base import Context
from ganinv.stages.method import load_method, method_config
from ganinv.stages.objective import ReconstructionLoss
from ganinv.stages.optimize import NoiseSettings, Optimize
from ganinv.stages.tune import Tune
from ganinv.target import Target

PORTRAITS = "data/official-portraits/portraits.parquet"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["projection", "pti", "edits", "memory", "memory-of"])
    parser.add_argument("--images", type=int)
    parser.add_argument("--generator", default="portraits-64")
    parser.add_argument("--samples", action="store_true")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--method", default="pti")
    parser.add_argument(
        "--reference", type=int, help="pti: images run one at a time, the others in batches; all of them"
    )
    parser.add_argument("--to", type=Path, help="edits: a picture of the first eight")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    g = open_generator(args.generator, device)
    print(f"{g.name}, {device}, {torch.get_num_threads()} threads, torch {torch.__version__}", flush=True)
    {"projection": projection, "pti": pti, "edits": edits, "memory": memory, "memory-of": memory_of}[args.what](g, args)


def targets(g: Generator, count: int, samples: bool = False) -> Target:
    """Test portraits at the generator's size, or samples of the generator."""
    if samples:
        z = torch.randn(count, g.z_dim, generator=torch.Generator().manual_seed(0))
        return Target(g.render(Code(w=g.map(z.to(g.device)))).clamp(-1, 1))
    shared = Path(os.environ.get("GANINV_SHARED", "../shared"))
    if not (shared / PORTRAITS).is_file():
        sys.exit(f"no {PORTRAITS} in {shared}: set GANINV_SHARED, or use --samples")
    data = open_dataset(str(shared / PORTRAITS), where={"split": "test"}, limit=count)
    loaded = data.load(data.ids, g.resolution)
    return Target(loaded.images, loaded.ids).to(g.device)


@torch.no_grad()
def errors(g: Generator, code: Code, target: Target) -> tuple[float, float]:
    """Mean MSE and mean embedded distance."""
    distance = open_distance("embedded", g)
    images = g.synthesize(code)
    far = between(distance.features(images), distance.features(target.images))
    return float((images - target.images).square().mean()), float(far.mean())


class Clock:
    """Processor seconds on a CPU, wall-clock seconds with a GPU."""

    def __init__(self, g: Generator) -> None:
        self.cuda = g.device.type == "cuda"
        self.started = self._now()

    def _now(self) -> float:
        if self.cuda:
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def seconds(self) -> float:
        """Since this clock was made."""
        return self._now() - self.started


def projection(g: Generator, args: argparse.Namespace) -> None:
    """Bar: at least 3 times the images per second, final distance within 2 %."""
    target = targets(g, args.images or 16, args.samples)
    cfg = Optimize(space="w", steps=args.steps or 200, noise_maps=NoiseSettings())
    context = Context(g, lambda name: None, lanes=args.batch)  # type: ignore[arg-type,return-value]
    distance = context.distance("embedded")
    Optimize(space="w", steps=2, noise_maps=NoiseSettings())(target[:4], None, context)  # warm-up
    clock = Clock(g)
    ours = cfg(target, None, context).code
    mine = clock.seconds()
    clock = Clock(g)
    theirs = Code.cat([project(g, target.images[i : i + 1], distance, cfg, i) for i in range(len(target))])
    reference = clock.seconds()
    a, b = errors(g, ours, target), errors(g, theirs, target)
    print(f"{len(target)} images, {cfg.steps} steps, batch {args.batch}")
    print(f"batched    {mine / len(target):8.3f} s/image  mse {a[0]:.5f}  distance {a[1]:.5f}")
    print(f"reference  {reference / len(target):8.3f} s/image  mse {b[0]:.5f}  distance {b[1]:.5f}")
    print(f"speed {reference / mine:.2f} x (bar: 3), distance {a[1] / b[1] - 1:+.2%} (bar: within 2 %)")


def pti(g: Generator, args: argparse.Namespace) -> None:
    """Bar: at least 5 times faster than the paper's procedure at equal or lower mean MSE and distance."""
    target = targets(g, args.images or 32, args.samples)
    method = load_method(args.method, g, batch_size=args.batch)
    method.invert(target[:1])
    clock = Clock(g)
    ours = method.invert(target)
    mine = clock.seconds()
    distance = method.context.distance("embedded")
    loss = ReconstructionLoss()
    first = Optimize(space="w", steps=450, lr=0.01, noise_maps=NoiseSettings(), loss=ReconstructionLoss(mse_weight=0.0))
    second = Tune(steps=350, lr=3e-4, loss=loss)
    alone = min(args.reference or len(target), len(target))
    clock, codes = Clock(g), []
    for i in range(alone):
        image = target.images[i : i + 1]
        pivot = project(g, image, distance, first, i)
        codes.append(tune(g, image, Code(w=pivot.w), distance, second))  # the published code drops the noise maps
    reference = clock.seconds() / alone
    a, b = errors(g, ours.code[:alone], target[:alone]), errors(g, Code.cat(codes), target[:alone])
    print(f"{len(target)} images; the paper's: 450 + 350 steps, one at a time, embedded distance in place of LPIPS")
    print(f"{args.method:10s} {mine / len(target):8.3f} s/image  mse {a[0]:.5f}  distance {a[1]:.5f}")
    print(f"paper      {reference:8.3f} s/image  mse {b[0]:.5f}  distance {b[1]:.5f}  ({alone} images)")
    speed = reference * len(target) / mine
    print(f"speed {speed:.1f} x (bar: 5), mse {a[0] / b[0]:.3f} x, distance {a[1] / b[1]:.3f} x (bar: 1)", flush=True)
    if alone < len(target):
        codes = []
        for at in range(0, len(target), args.batch):
            some = target[at : at + args.batch]
            pivot = first(some, None, method.context).code
            codes.append(second(some, Code(w=pivot.w), method.context).code)
        a, b = errors(g, ours.code, target), errors(g, Code.cat(codes), target)
        print(f"all {len(target)}, the paper's settings in batches: mse {b[0]:.5f}  distance {b[1]:.5f};")
        print(f"{args.method}: mse {a[0]:.5f} ({a[0] / b[0]:.3f} x)  distance {a[1]:.5f} ({a[1] / b[1]:.3f} x)")


def edits(g: Generator, args: argparse.Namespace) -> None:
    """Bar: low rank within 10 % of dense in distance; edits move the score as far as on the untuned generator, within 10 %."""
    target = targets(g, args.images or 32, args.samples)
    labeller, directions = open_labeller("portraits-64"), edit_directions(g)
    context = Context(g, lambda name: open_inverter(name, generator=g), lanes=args.batch)
    dense = Tune(steps=args.steps or 60, lr=3e-3, lr_rampdown=0.5)
    rows = []
    for method in ("pti", "pti-w"):
        *before, tune = method_config(method).stages
        pivot: Code | None = None
        for stage in before:
            pivot = stage(target, pivot, context).code
        assert pivot is not None
        codes = {"untuned": pivot, "dense, Adam": dense(target, pivot, context).code}
        codes["as shipped"] = tune(target, pivot, context).code
        moved = {
            name: {d: response(g, labeller, code, direction) for d, direction in directions.items()}
            for name, code in codes.items()
        }
        for name, code in codes.items():
            mse, distance = errors(g, code, target)
            share = "  ".join(
                f"{d} {moved[name][d]:+.2f} ({moved[name][d] / moved['untuned'][d]:.0%})" for d in moved[name]
            )
            print(f"{method:6s} {name:12s} mse {mse:.5f}  distance {distance:.5f}  {share}", flush=True)
            rows.append([_strip(g, code, directions["smile"], directions["glasses"])])
    _save_grid(torch.cat([target.images.clamp(-1, 1)[:8, None]] + [r[0][:8] for r in rows], dim=1), args.to)


EDIT_SAMPLES = 4000


def edit_directions(g: Generator, samples: int = EDIT_SAMPLES) -> dict[str, Direction]:
    """Glasses, smile and gender, from labelled samples."""
    labeller = open_labeller("portraits-64")
    w = g.map(sample_z(0, range(samples), g.z_dim).to(g.device), truncation_psi=0.8)
    scores = [labeller.score(g.render(Code(w=part))) for part in w.split(64)]
    latents = w[:, 0].cpu().numpy()
    out = {}
    for name in ("glasses", "smile", "gender"):
        values = torch.cat([torch.as_tensor(s[name]) for s in scores]).numpy()
        out[name] = fit_interfacegan(latents, values, attribute=name).direction(g.name, g.fingerprint)
    return out


@torch.no_grad()
def response(g: Generator, labeller: Labeller, code: Code, direction: Direction) -> float:
    """How far the attribute's score goes from strength -2 to 2, mean over the images."""
    ends = []
    for strength in (-2.0, 2.0):
        edited = code.with_w(code.w + direction.step(code.w, torch.tensor(strength)))
        ends.append(torch.as_tensor(labeller.score(g.render(edited))[direction.name]).mean())
    return float(ends[1] - ends[0])


@torch.no_grad()
def _strip(g: Generator, code: Code, *directions: Direction) -> torch.Tensor:
    """[B, 3, 3, R, R]: as it is, and with each direction at strength 2."""
    views = [g.render(code)]
    views += [g.render(code.with_w(code.w + d.step(code.w, torch.tensor(2.0)))) for d in directions]
    return torch.stack(views, dim=1).clamp(-1, 1)


def _save_grid(images: torch.Tensor, path: Path | None) -> None:
    if path is None:
        return
    rows = torch.cat([torch.cat(list(row), dim=2) for row in images], dim=1)
    pixels = ((rows.permute(1, 2, 0).cpu() + 1) * 127.5).round().clamp(0, 255).byte().numpy()
    Image.fromarray(pixels).resize((pixels.shape[1] * 2, pixels.shape[0] * 2), Image.Resampling.LANCZOS).save(path)


def memory(g: Generator, args: argparse.Namespace) -> None:
    """Peak resident memory of a process by batch size, each in a process of its own; then over many images."""
    sizes = [1, 4, 8, 16, 32]
    peaks = {b: _peak(args, batch=b, images=b, steps=4) for b in sizes}
    for b in sizes:
        print(f"batch {b:3d}  peak {peaks[b]:6.0f} MiB")
    slope = (peaks[32] - peaks[8]) / 24
    print(f"{slope:.1f} MiB per image from 8 to 32; from 8 to 16 alone {(peaks[16] - peaks[8]) / 8:.1f}")
    count = args.images or 1000
    print(_many(args, count))


def memory_of(g: Generator, args: argparse.Namespace) -> None:
    """One measurement of :func:`memory`, in this process."""
    target = targets(g, args.images, samples=True)
    stages = {
        i: {"steps": args.steps or 4} for i, s in enumerate(method_config(args.method).stages) if s.kind != "encode"
    }
    method = load_method(args.method, g, batch_size=args.batch, stages=stages)
    unit, seen = max(args.batch, 16), []
    for first in range(0, len(target), unit):
        method.invert(target[first : first + unit])
        seen.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print("PEAKS", json.dumps(seen))


def _peaks(args: argparse.Namespace, **changes: Any) -> list[float]:
    command = [sys.executable, "-m", "benchmarks.inversion.per_image", "memory-of", "--method", args.method]
    for name, value in changes.items():
        command += [f"--{name}", str(value)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return list(json.loads(out.split("PEAKS", 1)[1]))


def _peak(args: argparse.Namespace, **changes: Any) -> float:
    return _peaks(args, **changes)[-1]


def _many(args: argparse.Namespace, count: int) -> str:
    peaks = _peaks(args, batch=16, images=count, steps=2)
    return f"{count} images: peak after 5 %: {peaks[len(peaks) // 20]:.0f} MiB, at the end {peaks[-1]:.0f} MiB"


if __name__ == "__main__":
    main()
