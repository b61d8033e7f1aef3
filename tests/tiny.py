"""A generator small enough to optimise in a test: 16x16 or 32x32, a few channels, random weights."""

from __future__ import annotations

import torch

from ganinv.codes.code import Code
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.stylegan2 import Generator, GeneratorConfig


def tiny_generator(resolution: int = 32, seed: int = 0, dtype: torch.dtype = torch.float32) -> Generator:
    """A frozen random generator with its discriminator, noise strengths that are not zero, and statistics of W."""
    torch.manual_seed(seed)
    channels = (16, 16, 16, 8, 8)[: resolution.bit_length() - 2]
    g = Generator(GeneratorConfig(resolution=resolution, channels=channels, z_dim=16, w_dim=16, mapping_layers=2))
    for conv in g.synthesis.convs:
        conv.noise_strength.data.fill_(0.1)
    g.discriminator = Discriminator(resolution, channels)
    g.measure_w(1000)
    g.name = "tiny"
    return g.to(dtype).eval().requires_grad_(False)


def random_w(g: Generator, count: int, seed: int = 1) -> torch.Tensor:
    """Mapped latents [count, num_ws, w_dim], rows equal."""
    rng = torch.Generator().manual_seed(seed)
    return g.map(torch.randn(count, g.z_dim, generator=rng).to(g.w_mean.dtype))


def tensors(code: Code) -> list[torch.Tensor]:
    """Every tensor of a code."""
    found: list[torch.Tensor] = []
    code.map(lambda t: (found.append(t), t)[1])
    return found
