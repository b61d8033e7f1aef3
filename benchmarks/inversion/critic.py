"""Whether UDA-Inversion's second network learns to tell reconstructions of degraded images from those of clean ones.

    python -m benchmarks.inversion.critic --steps 240

``uda`` stays as it is here; only the second network learns, on batches of eight and eight reconstructions. Printed is the
discrepancy on reconstructions that it has not learned from (above 0 it has found a difference), and how well its l orders them
(area under the curve, 0.5 is chance). ``embedded`` is the discrepancy of the recipe, ``logit`` one whose l is the number that
a copy of the generator's discriminator gives. Half of the images are samples with rain, a stroke or half the size.
"""

from __future__ import annotations

import argparse
import copy

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from benchmarks.inversion.domains import reconstructed
from ganinv.codes.code import Code
from ganinv.config import validate
from ganinv.degradations.degrade import DegradeConfig, degrade
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.files import open_generator
from ganinv.generators.sampling import sample_z
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.discrepancy import Discrepancy, conjugate, embedded
from ganinv.losses.distance import between
from ganinv.methods.files import open_inverter

LOST = {"choose": [{"kind": "rain"}, {"kind": "strokes"}, {"kind": "down", "factors": [2]}], "share": 1.0}
HELD, BATCH, EVERY = 64, 8, 40


class Embedded:
    """The recipe's: how far the network's features are from the discriminator's."""

    def __init__(self, g: Generator) -> None:
        self.of: Discrepancy = embedded(g)
        self.network = self.of.network

    def __call__(self, images: Tensor) -> Tensor:
        return self.of.scale * between(self.of.learned.features(images), self.of.fixed.features(images))


class Logit:
    """The number that a copy of the discriminator gives."""

    def __init__(self, g: Generator) -> None:
        assert g.discriminator is not None
        self.network: Discriminator = copy.deepcopy(g.discriminator)

    def __call__(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images, isolate=True)
        return logits[:, 0]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--images", type=int, default=512)
    args = parser.parse_args()
    g = open_generator()
    clean, low = reconstructions(g, args.images)
    for kind, lr in ((Embedded, 2e-4), (Embedded, 1e-3), (Embedded, 4e-3), (Logit, 3e-4)):
        torch.manual_seed(0)
        critic = kind(g)
        network = critic.network.requires_grad_(True)
        optimizer = torch.optim.Adam(network.parameters(), lr=lr, betas=(0.9, 0.99))
        rng = torch.Generator().manual_seed(1)
        for step in range(args.steps + 1):
            if step % EVERY == 0:
                with torch.no_grad():
                    held = critic(clean[:HELD]), critic(low[:HELD])
                known = torch.cat([torch.ones(len(held[0])), torch.zeros(len(held[1]))])
                auc = roc_auc_score(known.numpy(), torch.cat(held).numpy())
                print(
                    f"{kind.__name__.lower():9s} lr {lr:g} step {step:4d}: discrepancy {float(found(*held)):+.4f}, AUC {auc:.3f}",
                    flush=True,
                )
            some = (side[torch.randint(HELD, len(side), (BATCH,), generator=rng)] for side in (clean, low))
            optimizer.zero_grad()
            (-found(*(critic(images) for images in some))).backward()
            optimizer.step()


def found(source: Tensor, target: Tensor) -> Tensor:
    """The discrepancy, from l of both domains [B]."""
    return source.mean() - conjugate(target.mean())


@torch.no_grad()
def reconstructions(g: Generator, count: int) -> tuple[Tensor, Tensor]:
    """Of clean samples and of other, degraded ones, half of ``count`` each."""
    z = sample_z(3, range(count), g.z_dim)
    samples = torch.cat([g.render(Code(w=g.map(some, truncation_psi=0.9))).clamp(-1, 1) for some in z.split(32)])
    half = count // 2
    everyone = list(range(count - half))
    low = degrade(samples[half:], validate(DegradeConfig, LOST, "LOST"), everyone, everyone).images
    inverter = open_inverter("uda", generator=g)
    # They are copied as inference mode made them, and gradients will pass.
    return reconstructed(inverter, g, samples[:half]).clone(), reconstructed(inverter, g, low).clone()


if __name__ == "__main__":
    main()
