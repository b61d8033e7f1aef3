"""A warm start for the generator on a small data set: latents of the training images are given, not searched.

Generative latent optimisation (Bojanowski et al. 2018) starts every training image's latent at its whitened PCA coefficients.
These are nearly N(0, I), so the generator that learns to decode them can be sampled at once: blurred, but faces, and as
varied as the data. Adversarial training then only has to sharpen. On a CPU this saves most of the first 100,000 images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.generators.stylegan2 import Generator
from ganinv.optim.muon import MuonAdam


class WarmStartConfig(BaseModel):
    """A warm start. ``kimg``: thousands of images to decode; the learning rate falls along a cosine."""

    model_config = ConfigDict(extra="forbid")

    kimg: float = 50.0
    batch_size: int = 16
    muon_lr: float = 0.02
    lr: float = 0.003
    mapping_lr_scale: float = 0.3
    seed: int = 0


def warm_start(generator: Generator, images: Tensor, cfg: WarmStartConfig) -> Iterator[dict[str, float]]:
    """Train ``generator`` in place to decode PCA coefficients of ``images``, yielding losses.

    Args:
        images: uint8 [N, 3, R, R] at the generator's resolution; mirrored copies are added.
    """
    rng = torch.Generator().manual_seed(cfg.seed)
    everything = torch.cat([images, images.flip(3)])
    z = pca_latents(everything, generator.z_dim)
    optimizer = MuonAdam(
        generator,
        muon_lr=cfg.muon_lr,
        adam_lr=cfg.lr,
        mapping_scale=cfg.mapping_lr_scale,
        mapping_lr_mul=generator.cfg.mapping_lr_mul,
    )
    steps = int(cfg.kimg * 1000 / cfg.batch_size)
    for step in range(steps):
        index = torch.randint(len(everything), (cfg.batch_size,), generator=rng)
        target = (everything[index].float() / 127.5 - 1).to(generator.device)
        rendered = generator.synthesize(Code(w=generator.map(z[index].to(generator.device))), noise="none")
        loss = pyramid_loss(rendered, target)
        optimizer.scale(max(0.15, 0.5 + 0.5 * math.cos(math.pi * step / steps)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield {"step": step + 1.0, "steps": float(steps), "loss": loss.item()}


def pca_latents(images: Tensor, z_dim: int) -> Tensor:
    """Whitened PCA coefficients of uint8 images [N, 3, R, R]: [N, z_dim], about N(0, I)."""
    small = F.adaptive_avg_pool2d(images.float() / 127.5 - 1, 32).flatten(1)
    centred = small - small.mean(0)
    values, vectors = torch.linalg.eigh(centred.t() @ centred / (len(centred) - 1))
    values, vectors = values.flip(0)[:z_dim], vectors.flip(1)[:, :z_dim]
    # An eigenvector's sign is anybody's choice, and G learns one. Its largest entry cannot settle it: mirrored images make
    # every eigenvector symmetric, so a left and a right entry are largest by rounding alone. A fixed random vector can.
    probe = torch.randn(len(vectors), generator=torch.Generator().manual_seed(0))
    vectors = vectors * (probe @ vectors).sign()
    return centred @ vectors / values.clamp_min(1e-8).sqrt()


def pyramid_loss(rendered: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference, averaged over a pyramid of halved sizes down to 8x8."""
    losses = []
    while True:
        losses.append((rendered - target).abs().mean())
        if rendered.shape[-1] <= 8:
            return torch.stack(losses).mean()
        rendered, target = F.avg_pool2d(rendered, 2), F.avg_pool2d(target, 2)
