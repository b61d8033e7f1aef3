"""Projection to W by Adam and by L-BFGS: seconds, closeness, how far the latents lie out, and how far edits move them.

    python -m benchmarks.inversion.projection --images 16

The objective is the projector's, the embedded distance alone. "From the mean" is the Mahalanobis distance under the covariance of
latents of the mapping network; of such latents themselves it is printed first. Seconds are processor seconds of one thread. The
last columns are how far the labeller's score moves along a shipped direction from -2 to 2: the labeller fitted the directions, so
they compare latents, and do not say that an edit works.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmarks.inversion.peers import MOST, adam, lbfgs, measured
from benchmarks.inversion.per_image import targets
from ganinv.codes.code import Code
from ganinv.generators.files import open_generator
from ganinv.generators.sampling import sample_z
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import open_labeller
from ganinv.stages.base import Context
from ganinv.stages.objective import ReconstructionLoss
from ganinv.stages.optimize import Optimize
from ganinv.store import open_store

LATENTS = 4000
STRENGTH = 2
ATTRIBUTES = ("smile", "glasses", "age")
SETTINGS = adam(100, 200) | lbfgs(30, 40, 60)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    args = parser.parse_args()
    torch.set_num_threads(1)
    g = open_generator("portraits-64")
    context = Context(g, lambda name: None, lanes=16)  # type: ignore[arg-type,return-value]
    distance = context.distance("embedded")
    loss = ReconstructionLoss(distance="embedded", mse_weight=0.0, distance_resolution=MOST)
    from_the_mean = mahalanobis(g)
    known = from_the_mean(g.map(sample_z(8, range(LATENTS), g.z_dim)).reshape(LATENTS, -1, g.w_dim)[:, 0])
    print(f"latents of the mapping network: from the mean {known.mean():.1f}, 99 % under {known.quantile(0.99):.1f}")
    for samples in (False, True):
        target = targets(g, args.images, samples)
        for name, settings in SETTINGS.items():
            stage = Optimize.model_validate({"space": "w", "loss": loss, **settings})
            begun = time.process_time()
            w = stage(target, None, context).code.w
            seconds = (time.process_time() - begun) / len(target)
            with torch.no_grad():
                mse, far = measured(g.synthesize(Code(w=w)), target, distance)
            moved = ", ".join(f"{attribute} {moves(g, w, attribute):.2f}" for attribute in ATTRIBUTES)
            print(
                f"{'samples' if samples else 'portraits'}  {name:11s} {seconds:6.2f} s/image  mse {mse:.5f}  distance {far:.5f}  "
                f"from the mean {from_the_mean(w[:, 0]).mean():.1f}  {moved}",
                flush=True,
            )


def mahalanobis(g: Generator) -> Callable[[Tensor], Tensor]:
    """Distances of latents [N, w_dim] to W's mean, in its own deviations."""
    w = g.map(sample_z(7, range(LATENTS), g.z_dim)).reshape(LATENTS, -1, g.w_dim)[:, 0]
    mean, floor = w.mean(0), 1e-4 * w.var(0).mean()  # directions in which W is flat count little
    inverse = torch.linalg.inv(torch.cov(w.T) + floor * torch.eye(g.w_dim))
    return lambda some: (((some - mean) @ inverse) * (some - mean)).sum(-1).sqrt()


@torch.no_grad()
def moves(g: Generator, w: Tensor, attribute: str) -> float:
    """The labeller's score of w [N, num_ws, w_dim] at one end of an edit less that at the other, a mean over the latents."""
    labeller = open_labeller("portraits-64")
    direction = open_store("memory://projection").directions.get(attribute, generator=g.fingerprint)
    step = STRENGTH * direction.unit * torch.from_numpy(np.array(direction.vector))
    low, high = (labeller(g.render(Code(w=w + sign * step)).clamp(-1, 1))[attribute] for sign in (-1, 1))
    return float((high - low).mean())


if __name__ == "__main__":
    main()
