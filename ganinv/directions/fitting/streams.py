"""Samples of a generator's latent spaces, drawn when they are needed: 10^6 of them take the memory of one batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ganinv.generators.sampling import sample_z
from ganinv.generators.stylegan2 import Generator


@torch.no_grad()
def stream_mapped(generator: Generator, samples: int, seed: int, batch: int = 4096) -> Iterator[tuple[Tensor, Tensor]]:
    """(z [n, z_dim], w [n, w_dim]) of samples 0, 1, 2, ... of a run, a batch at a time. w is not truncated.

    A sample is a function of the seed and its number alone, whatever the batch.
    """
    for start in range(0, samples, batch):
        z = sample_z(seed, range(start, min(start + batch, samples)), generator.z_dim)
        c = torch.zeros(len(z), generator.c_dim, device=generator.device) if generator.c_dim else None
        yield z, generator.mapping(z.to(generator.device, generator.w_mean.dtype), c)


def stream_w(generator: Generator, samples: int, seed: int, batch: int = 4096) -> Iterator[np.ndarray]:
    """w [n, w_dim] of the same samples."""
    for _, w in stream_mapped(generator, samples, seed, batch):
        yield w.cpu().numpy()
