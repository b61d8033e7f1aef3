"""Perceptual path length: how much an image changes with a small step in W."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.generators.sampling import sample_z
from ganinv.generators.stylegan2 import Generator
from ganinv.judges.squeezenet import SIDE, SqueezeNet


@torch.inference_mode()
def path_length(
    generator: Generator,
    net: SqueezeNet,
    samples: int = 500,
    *,
    epsilon: float = 1e-3,
    seed: int = 0,
    batch_size: int = 16,
) -> float:
    """Perceptual path length in W (Karras et al. 2019, section 4.1): E[d(G(w(t)), G(w(t + epsilon)))] / epsilon^2 at a random
    point of the line between two samples. As in the paper, the largest and the smallest hundredth are left out.

    The distance d compares SqueezeNet's activations after each fire module: normalised over channels, squared differences,
    summed over channels and modules, mean over positions. This is LPIPS without its fitted weights, so the numbers are not
    comparable with published ones.
    """
    w = generator.map_all(sample_z(seed, range(2 * samples), generator.z_dim).to(generator.device))
    t = torch.rand(samples, 1, 1, generator=torch.Generator().manual_seed(seed)).to(w.device)
    a, b = w[:samples], w[samples:]
    distances = []
    for first in range(0, samples, batch_size):
        part = slice(first, first + batch_size)
        at, step = torch.lerp(a[part], b[part], t[part]), (b[part] - a[part]) * epsilon
        pair = [_activations(net, generator.render(Code(w=point))) for point in (at, at + step)]
        distances.append(
            sum(((x - y).square().sum(1).mean((1, 2)) for x, y in zip(*pair, strict=True)), torch.zeros(()))
        )
    values = np.sort(torch.cat(distances).double().cpu().numpy()) / epsilon**2
    cut = len(values) // 100
    return float(values[cut : len(values) - cut].mean())


def _activations(net: SqueezeNet, images: Tensor) -> list[Tensor]:
    shown = F.interpolate(images.float(), (SIDE, SIDE), mode="bilinear", align_corners=False)
    return [F.normalize(x, dim=1) for x in net(shown).values()]
