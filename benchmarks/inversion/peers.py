"""Projection and tuning against the public programs themselves: your own checkout of them, on one generator and one distance.

    git clone https://github.com/NVlabs/stylegan2-ada-pytorch    # its licence is NVIDIA's, for non-commercial use
    python -m benchmarks.inversion.peers nvidia --checkout stylegan2-ada-pytorch --images 8 --steps 200
    git clone https://github.com/danielroich/PTI
    python -m benchmarks.inversion.peers pti --checkout PTI --networks stylegan2-ada-pytorch --images 4

None of their code is in this repository. The checkout runs in a process of its own, unchanged: the generator is given to it as a
pickle of its own class (PTI has none: of NVIDIA's, whose pickles bring their code along), and our distance as the perceptual net
that it would download. Both sides have the same images, device and number of threads, and the same steps but for our L-BFGS; the
checkout works on one image at a time, as it does, and this project on batches. Time is what the projection takes, without imports
and files: processor seconds, or those of the wall on a GPU. Images are then measured alike.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.generator.synthesis import device_words, generator_of
from benchmarks.inversion.per_image import Clock, targets
from ganinv.codes.code import Code
from ganinv.errors import ConfigError
from ganinv.generators.files import save_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.distance import Distance, between, halved
from ganinv.stages.base import Context
from ganinv.stages.method import load_method
from ganinv.stages.objective import ReconstructionLoss
from ganinv.stages.optimize import NoiseSettings, Optimize
from ganinv.target import Target

SAME = 1e-2  # of renderings in about [-1, 1], by two programs with kernels of their own
MOST = 256  # pixels at which both projectors measure
PROCESS = Path(__file__).with_name("peer_process.py")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=["nvidia", "pti"])
    parser.add_argument("--checkout", type=Path, required=True)
    parser.add_argument("--generator", default="portraits-64")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--samples", action="store_true", help="of the generator, in place of test portraits")
    parser.add_argument("--steps", type=int, help="200 of the projector, 450 of PTI's")
    parser.add_argument("--lbfgs-steps", type=int, default=50, help="of our projection by L-BFGS, beside ours by Adam")
    parser.add_argument("--tuning-steps", type=int, default=350)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--method", default="pti", help="ours, against PTI")
    parser.add_argument("--distance", default="embedded")
    parser.add_argument(
        "--networks", type=Path, help="a checkout that has training/networks.py, where the first has none"
    )
    parser.add_argument("--python", default=sys.executable, help="that has what the checkout needs")
    args = parser.parse_args()
    g = generator_of(args.generator)
    print(f"{g.name}, {device_words(g.device)}, {args.images} images, distance {args.distance}", flush=True)
    target = targets(g, args.images, args.samples)
    context = Context(g, lambda name: None)  # type: ignore[arg-type,return-value]
    distance = context.distance(args.distance)
    args.steps = args.steps or (200 if args.peer == "nvidia" else 450)
    with tempfile.TemporaryDirectory() as place:
        peer = Peer(args.checkout, Path(place), g, distance, args.python, args.networks)
        theirs = peer.run(args.peer, target, args.steps, args.tuning_steps)
    mse, far = measured(theirs.images.to(g.device), target, distance)
    print(f"{args.peer:14s}            {theirs.seconds:8.3f} s/image  mse {mse:.5f}  distance {far:.5f}")
    own = {args.method: None} if args.peer == "pti" else adam(args.steps) | lbfgs(args.lbfgs_steps)
    for batch, (name, settings) in itertools.product(args.batches, own.items()):
        seconds, image = ours(args, g, target, batch, settings)
        own_mse, own_far = measured(image, target, distance)
        print(
            f"{name:14s} batch {batch:3d}  {seconds:8.3f} s/image  mse {own_mse:.5f}  distance {own_far:.5f}   "
            f"{theirs.seconds / seconds:.2f} x as fast, distance {own_far / far - 1:+.1%}",
            flush=True,
        )


def adam(*steps: int) -> dict[str, dict[str, Any]]:
    """Settings of ``Optimize`` by name: as the projector takes its steps, without the noise maps that it drops."""
    return {f"Adam, {n}": {"steps": n, "noise_maps": NoiseSettings(keep=False)} for n in steps}


def lbfgs(*steps: int) -> dict[str, dict[str, Any]]:
    """The same by L-BFGS, as in ``w-lbfgs``."""
    return {f"L-BFGS, {n}": {"steps": n, "optimizer": "lbfgs", "lr": 1.0, "latent_noise": 0.0} for n in steps}


def ours(
    args: argparse.Namespace, g: Generator, target: Target, batch: int, settings: Mapping[str, Any] | None
) -> tuple[float, Tensor]:
    """Seconds per image, and the renderings.

    Args:
        settings: of the projection; None is ``args.method``.
    """
    if settings is None:
        method = load_method(args.method, g, batch_size=batch)
        method.invert(target[:1])
        clock = Clock(g)
        code = method.invert(target, measure=False).code
    else:
        loss = ReconstructionLoss(distance=args.distance, mse_weight=0.0, distance_resolution=MOST)
        stage = Optimize.model_validate({"space": "w", "loss": loss, **settings})
        context = Context(g, lambda name: None, lanes=batch)  # type: ignore[arg-type,return-value]
        stage.model_copy(update={"steps": 2})(target[: min(4, len(target))], None, context)
        clock = Clock(g)
        code = stage(target, None, context).code
    seconds = clock.seconds() / len(target)
    with torch.no_grad():
        return seconds, torch.cat([g.synthesize(code[i : i + 1]) for i in range(len(code))])


@torch.no_grad()
def measured(images: Tensor, target: Target, distance: Distance) -> tuple[float, float]:
    """Mean squared error and distance, means over the images."""
    a, b = (distance.features(halved(x, MOST)) for x in (images, target.images))
    return float((images - target.images).square().mean()), float(between(a, b).mean())


@dataclass(frozen=True)
class Found:
    """What a checkout came to: seconds per image, and the images [B, 3, R, R] that it renders of its results."""

    seconds: float
    images: Tensor


class Peer:
    """A checkout, and what it is given to work with.

    Args:
        checkout: its folder. place: an empty folder for what it is given and what it writes.
        python: the interpreter that has what it needs.
        networks: the checkout whose class the generator gets, if it is another one.

    Raises:
        ConfigError: no such checkout, a generator that it renders otherwise, or a run of it that fails; its words are told.
    """

    def __init__(
        self,
        checkout: Path,
        place: Path,
        g: Generator,
        distance: Distance,
        python: str = sys.executable,
        networks: Path | None = None,
    ) -> None:
        self.checkout, self.place, self.g, self._python = checkout.resolve(), place, g, python
        if not (self.checkout / "dnnlib").is_dir():
            raise ConfigError(f"{checkout} is no checkout of the projector or of PTI: expected a folder dnnlib in it")
        networks = (networks or checkout).resolve()
        if not (networks / "training/networks.py").is_file():
            raise ConfigError(
                f"{networks} has no training/networks.py, where a generator's class is: name a checkout of "
                "stylegan2-ada-pytorch with --networks"
            )
        cfg = g.cfg
        if cfg.architecture != "skip" or cfg.c_dim or cfg.img_channels != 3:
            raise ConfigError(
                f"generator {g.name!r} is conditional, not of RGB or not of skips: neither program takes it"
            )
        files = {"state": "state.pt", "network": "network.pkl", "distance": "distance.pt", "found": "found.pt"}
        files |= {"latents": "latents.pt", "images": "images.pt", "cache": "cache", "out": "out", "folder": "images"}
        self._given = {name: str(place / file) for name, file in files.items()} | {"device": g.device.type}
        save_generator(g, self._given["state"], "nvidia")
        side = min(g.resolution, MOST)
        as_script(distance, g, side).save(self._given["distance"])
        w = g.map(torch.randn(2, g.z_dim, generator=torch.Generator().manual_seed(0)).to(g.device))
        torch.save(w.cpu(), self._given["latents"])
        self._ask("prepare", networks, widest=max(cfg.channels))
        rendered, want = torch.load(self._given["found"], weights_only=True), g.render(Code(w=w)).cpu()
        if (off := float((rendered - want).abs().max())) > SAME:
            raise ConfigError(
                f"{checkout} renders images that are {off:.3g} off ours: not the same generator, nothing to compare"
            )

    def run(self, peer: str, target: Target, steps: int, tuning_steps: int) -> Found:
        """All images, by ``nvidia`` or by ``pti``."""
        pixels = ((target.images.cpu() + 1) * 127.5).round().clamp(0, 255)
        torch.save(pixels, self._given["images"])
        folder, names = Path(self._given["folder"]), [f"{k:05d}" for k in range(len(target))]
        folder.mkdir()
        for name, image in zip(names, pixels.byte().permute(0, 2, 3, 1).numpy(), strict=True):
            Image.fromarray(image).save(folder / f"{name}.png")
        said = self._ask(peer, self.checkout, steps=steps, tuning_steps=tuning_steps, names=names)
        return Found(sum(said["seconds"]) / len(said["seconds"]), torch.load(self._given["found"], weights_only=True))

    def _ask(self, what: str, checkout: Path, **more: Any) -> dict[str, Any]:
        settings = self.place / f"{what}.json"
        settings.write_text(json.dumps({**self._given, **more}))
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(checkout), os.environ.get("PYTHONPATH", "")])}
        environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())
        command = [self._python, str(PROCESS), what, str(settings)]
        ran = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
        if ran.returncode:
            lines = [line.strip() for line in ran.stderr.splitlines() if line.strip(" ^~")]
            last = "; ".join(lines[-2:])  # of an assertion without words, what it asserts
            raise ConfigError(f"{checkout.name} ended with {ran.returncode} ({what}): {last or ran.stdout[-300:]}")
        return dict(json.loads(ran.stdout.rpartition("FOUND ")[2]))


class _Flat(nn.Module):
    """A distance's features side by side [B, D]: their squared differences sum to the distance."""

    def __init__(self, distance: Distance) -> None:
        super().__init__()
        self.distance = distance

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([f.flatten(1) for f in self.distance.features(images)], dim=1)


class _Script(nn.Module):
    """As NVIDIA's projector calls its perceptual net: images in [0, 255], and two switches that change nothing here."""

    def __init__(self, flat: nn.Module) -> None:
        super().__init__()
        self.flat = flat

    def forward(self, images: Tensor, resize_images: bool = False, return_lpips: bool = True) -> Tensor:
        out: Tensor = self.flat(images / 127.5 - 1.0)
        return out


def as_script(distance: Distance, g: Generator, side: int) -> torch.jit.ScriptModule:
    """A distance as a file that runs without this project."""
    example = torch.zeros(1, 3, side, side, device=g.device)
    flat = torch.jit.trace(_Flat(distance), example, check_trace=False)
    script: torch.jit.ScriptModule = torch.jit.script(_Script(flat))
    return script


if __name__ == "__main__":
    main()
