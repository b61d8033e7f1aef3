"""Muon against Adam on the warm start: the same generator, data and batches; the loss after equally many images.

    python benchmarks/inversion/optimizers.py --data portraits.parquet --where split=train

Prints the mean loss of each tenth of the run, and Muon's as a ratio of Adam's. About two minutes on two cores.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import torch

from ganinv.codes.code import Code
from ganinv.data import open_dataset
from ganinv.generators.stylegan2 import Generator
from ganinv.optim.muon import MuonAdam
from ganinv.training.gan import GanRecipe
from ganinv.training.warm_start import Components, pyramid_loss


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--where", action="append", default=[])
    parser.add_argument("--kimg", type=float, default=5.0)
    args = parser.parse_args()
    dataset = open_dataset(args.data, where=dict(pair.split("=", 1) for pair in args.where) or None)
    images = dataset.load(dataset.ids, 32).images
    steps = int(args.kimg * 1000 / 16)
    curves = {name: curve(name, images, steps) for name in ("adam", "muon")}
    print("tenth of the run   adam     muon     ratio")
    for i in range(10):
        part = slice(i * steps // 10, (i + 1) * steps // 10)
        adam, muon = (sum(curves[n][part]) / len(curves[n][part]) for n in ("adam", "muon"))
        print(f"{i + 1:>16}   {adam:.4f}   {muon:.4f}   {muon / adam:.2f}")


def curve(name: str, images: torch.Tensor, steps: int) -> list[float]:
    """Losses of one run at 32x32."""
    torch.manual_seed(0)
    g = Generator(GanRecipe(size=32).generator_config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    components = Components(g.z_dim)
    components.fit([((images + 1) * 127.5).round().to(torch.uint8)])
    z = components(images)
    if name == "muon":
        both = MuonAdam(g, muon_lr=0.02, adam_lr=0.003, mapping_scale=0.3, mapping_lr_mul=g.cfg.mapping_lr_mul)
    else:
        both = MuonAdam(g, muon_lr=0.02, adam_lr=0.003)
        mapping: dict[str, Any] = {"params": list(g.mapping.parameters()), "lr": 0.003 * 30}
        both.parts = [torch.optim.Adam([mapping, {"params": list(g.synthesis.parameters())}], 0.003, betas=(0.9, 0.99))]
        both.full_rates = [[group["lr"] for group in both.parts[0].param_groups]]
    rng, losses = torch.Generator().manual_seed(0), []
    for step in range(steps):
        index = torch.randint(len(images), (16,), generator=rng)
        loss = pyramid_loss(g.synthesize(Code(w=g.map(z[index])), noise="none"), images[index])
        both.scale(max(0.15, 0.5 + 0.5 * math.cos(math.pi * step / steps)))
        both.zero_grad()
        loss.backward()
        both.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    main()
