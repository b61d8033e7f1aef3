"""HyperStyle's domain adaptation: a hypernetwork of one generator, and another generator that was fine-tuned from it.

    ganinv train portraits-64-w --store runs/mine --dataset photos
    ganinv train portraits-64-hyperstyle --store runs/mine --dataset photos
    python examples/hyperstyle_domain.py --out runs/domain --encoder runs/mine/encoders/hyperstyle

The target here is made on the spot: the embedded generator, its finer layers trained for some steps to draw its own samples as
charcoal pictures. ``--target`` takes a real one, any file that was fine-tuned from the embedded generator.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import torch
import torch.nn.functional as F
from pictures import portraits, save
from torch import Tensor

from ganinv import open_generator
from ganinv.codes.code import Code
from ganinv.editing.domain import adapt
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.base import Inverter
from ganinv.methods.files import open_inverter


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--encoder", default="hyperstyle", help="a trained HyperStyle: a folder, or one that ships by its name"
    )
    parser.add_argument(
        "--target", help="a generator that was fine-tuned from the embedded one; made here if it is not given"
    )
    parser.add_argument("--steps", type=int, default=150, help="of fine-tuning, where the target is made here")
    args = parser.parse_args()
    source = open_generator("portraits-64")
    target = open_generator(args.target) if args.target else fine_tuned(source, args.steps)
    run(args.out, source, target, open_inverter(args.encoder, generator=source))


@torch.no_grad()
def run(out: Path, source: Generator, target: Generator, hyperstyle: Inverter) -> None:
    """A strip for each portrait: photo, inversion, the latent on the target, with all offsets, with those of details alone."""
    for name, image in portraits(source.resolution).items():
        code = hyperstyle(image)
        images = [
            image,
            source.render(code),
            target.render(Code(w=code.w)),
            target.render(adapt(code, target, start="0")),
            target.render(adapt(code, target)),
        ]
        save(out / f"{name}.png", images)
    print("pictures:", out)


def fine_tuned(source: Generator, steps: int, batch: int = 8) -> Generator:
    """A copy whose layers from a quarter of the side on learned to render charcoal versions of the source's samples."""
    target = copy.deepcopy(source)
    first = len(target.cfg.channels) - 3
    finer = [f"convs.{k}." for k in range(2 * first - 1, len(target.synthesis.convs))]
    finer += [f"torgbs.{b}." for b in range(first, len(target.synthesis.torgbs))]
    learned = [p.requires_grad_(True) for n, p in target.synthesis.named_parameters() if n.startswith(tuple(finer))]
    optimizer = torch.optim.Adam(learned, lr=2e-3)
    rng = torch.Generator().manual_seed(0)
    for _ in range(steps):
        w = source.map(torch.randn(batch, source.z_dim, generator=rng), truncation_psi=0.9)
        with torch.no_grad():
            wanted = charcoal(source.synthesize(Code(w=w)))
        loss = F.mse_loss(target.synthesize(Code(w=w)), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    target.name = "charcoal"
    return target.requires_grad_(False)


def charcoal(images: Tensor) -> Tensor:
    """Grey, of high contrast, with dark edges."""
    grey = images.mean(1, keepdim=True)
    edges = (grey - F.avg_pool2d(grey, 5, 1, 2)).abs()
    return (1.6 * grey - 4 * edges).clamp(-1, 1).expand_as(images)


if __name__ == "__main__":
    main()
