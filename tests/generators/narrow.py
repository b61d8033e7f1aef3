"""A generator for the extras contract, R = 32 and 8 channels, and codes that hold one extra each, or all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ganinv.codes.code import Code, Feature, HeadCode, LowRank, Masked
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.stylegan2 import Generator
from ganinv.networks.weight_heads import ChannelHead, KernelHead

CHANNELS = 8


def narrow_generator(dtype: torch.dtype = torch.float64, **config: Any) -> Generator:
    """R = 32, 8 channels, w_dim 8; noise strengths and biases that are not zero."""
    torch.manual_seed(0)
    shape = {"resolution": 32, "channels": (CHANNELS,) * 4, "z_dim": 8, "w_dim": 8, "mapping_layers": 1}
    g = Generator(GeneratorConfig(**(shape | config)))
    for name, p in g.synthesis.named_parameters():
        if name.endswith(("noise_strength", ".bias")):
            p.data += 0.2 * torch.randn(p.shape)
    return g.to(dtype).eval().requires_grad_(False)


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def w_plus(g: Generator, batch: int = 1, seed: int = 0) -> Tensor:
    """Rows that all differ, so that a wrong row shows."""
    return normal(batch, g.num_ws, g.w_dim, seed=seed).to(g.w_mean.dtype)


def heads() -> dict[str, KernelHead | ChannelHead]:
    """Hypernetwork heads for two layers of the narrow generator, with 4 numbers for each."""
    torch.manual_seed(7)
    shape = (CHANNELS, CHANNELS, 3, 3)
    made = {"convs.2.weight": KernelHead(shape, code_dim=4), "convs.3.weight": ChannelHead(shape, code_dim=4)}
    return {name: head.double().requires_grad_(False) for name, head in made.items()}


HEADS = heads()


def extras_of(batch: int = 1, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Every extra by itself, as keyword arguments of ``Code``."""
    c = CHANNELS

    def n(*shape: int, scale: float = 1.0) -> Tensor:
        nonlocal seed
        seed += 1
        return normal(batch, *shape, seed=seed, scale=scale)

    def mask(*shape: int) -> Tensor:
        return n(*shape).sigmoid()

    return {
        "noise": {"noise": {0: n(1, 4, 4), 3: n(1, 16, 16)}},
        "masked noise": {"noise": {4: Masked(n(1, 16, 16), mask(1, 16, 16))}},
        "style offsets": {"styles": {"convs.2": n(c), "torgbs.1": n(c)}},
        "style values": {"style_values": {"convs.3": n(c), "torgbs.2": Masked(n(c), mask(c))}},
        "dense weights": {"weights": {"convs.1.weight": n(c, c, 3, 3), "torgbs.3.weight": n(3, c, 1, 1)}},
        "low-rank weights": {
            "weights": {
                "convs.0.weight": LowRank(n(c, 3), n(3, c * 9)),  # too large a share of 8 channels: added in
                "convs.3.weight": LowRank(n(c, 1), n(1, c * 9)),
                "convs.4.weight": LowRank(n(c, 1), n(1, c * 9)),
                "convs.1.affine.weight": LowRank(n(c, 2), n(2, 8)),
                "torgbs.2.weight": LowRank(n(3, 1), n(1, c)),
            }
        },
        "tuned rest": {
            "weights": {
                "const": n(c, 4, 4),
                "convs.2.bias": n(c),
                "convs.2.noise_strength": n(),
                "convs.2.affine.weight": n(c, 8),
                "torgbs.0.affine.bias": n(c),
            }
        },
        "dense scales": {"scales": {"convs.5.weight": n(c, c, 3, 3, scale=0.3)}},
        "low-rank scales": {"scales": {"convs.6.weight": LowRank(n(c, 2), n(2, c * 9))}},
        "hypernetwork codes": {
            "scales": {
                name: HeadCode(n(4), torch.full((batch,), 2.0, dtype=torch.float64), head)
                for name, head in HEADS.items()
            }
        },
        "const": {"const": n(c, 4, 4)},
        "masked const": {"const": Masked(n(c, 4, 4), mask(1, 4, 4))},
        "padding": {"padding": {0: n(c, 20), 2: n(c, 36), 6: n(c, 132)}},
        "film": {"features": {"act[3]": Feature(film=(n(c, 16, 16), n(c, 1, 1)))}},
        "add": {
            "features": {"block[2]": Feature(add=Masked(n(c, 8, 8), mask(1, 8, 8))), "act[1]": Feature(add=n(c, 8, 8))}
        },
        "replace": {"features": {"block[4]": Feature(replace=Masked(n(c, 16, 16), mask(1, 16, 16)))}},
        "image": {"features": {"block[0]": Feature(image=Masked(n(3, 4, 4), mask(1, 4, 4)))}},
    }


def full_code(g: Generator, batch: int = 1, seed: int = 0) -> Code:
    """A code with every kind of extra at once."""
    code = Code(w=w_plus(g, batch, seed))
    for extra in extras_of(batch, seed).values():
        for field, value in extra.items():
            own = getattr(code, field)
            code = replace(code, **{field: {**own, **value} if isinstance(own, dict) else value})
    return code.to(g.w_mean.dtype)
