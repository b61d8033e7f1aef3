"""What the public implementations do, for comparison: one image at a time, per-sample weights in a grouped convolution, the
target's features computed again in every step. Written from the papers and this project's notes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.generators import synthesis
from ganinv.generators.layers import DEMOD_EPS, FIR, grouped
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.distance import Distance, between
from ganinv.stages.optimize import Optimize
from ganinv.stages.tune import Tune
from ganinv.stages.variables import noise_correlation


@contextmanager
def fused_modulation() -> Iterator[None]:
    """Modulated convolutions as the original code evaluates them: every sample's modulated weight is formed, and one grouped
    convolution applies them. The gradient of a style then passes through a weight gradient."""
    ours = synthesis.modulated_conv2d
    synthesis.modulated_conv2d = _fused  # type: ignore[assignment]
    try:
        yield
    finally:
        synthesis.modulated_conv2d = ours


def _fused(
    x: Tensor, weight: Tensor, style: Tensor, *, demodulate: bool = True, up: bool = False, fir: FIR | None = None,
    ring: Tensor | None = None, offset: object = None, then: Callable[[Tensor, None], Tensor] | None = None,
) -> Tensor:  # fmt: skip
    assert ring is None
    assert offset is None
    w = (weight if weight.ndim == 5 else weight[None]) * style[:, None, :, None, None]
    if demodulate:
        w = w * (w.square().sum(dim=(2, 3, 4), keepdim=True) + DEMOD_EPS).rsqrt()
    y = grouped(x, w, w.shape[-1] // 2, up)
    if then is not None:
        return then(y, None)
    if up:
        assert fir is not None
        y = fir(y, padding=1)
    return y


def project(g: Generator, image: Tensor, distance: Distance, cfg: Optimize, seed: int) -> Code:
    """The projector on one image [1, 3, R, R], with the settings of ``cfg``."""
    assert cfg.noise_maps is not None
    rng = torch.Generator().manual_seed(seed)
    w = g.w_mean.expand(1, 1, -1).clone().requires_grad_(True)
    layers: list[Any] = list(g.synthesis.convs)
    noise = {
        k: torch.randn(1, 1, *layer.noise.shape, generator=rng).to(w).requires_grad_(True)
        for k, layer in enumerate(layers)
    }
    adam = torch.optim.Adam([w, *noise.values()], betas=(0.9, 0.999))
    with fused_modulation():
        for step in range(cfg.steps):
            t = step / cfg.steps
            adam.param_groups[0]["lr"] = cfg.lr * cfg.lr_factor(t)
            scale = cfg.latent_noise * float(g.w_std) * max(0.0, 1 - t / cfg.latent_noise_end) ** 2
            noisy = w + scale * torch.randn(w.shape, generator=rng).to(w)
            rendered = g.synthesize(Code(w=noisy.expand(-1, g.num_ws, -1), noise=noise))
            loss = cfg.loss.distance_weight * between(distance.features(rendered), distance.features(image)).sum()
            loss = loss + cfg.loss.mse_weight * (rendered - image).square().mean()
            loss = loss + cfg.noise_maps.regularization * sum(noise_correlation(n).sum() for n in noise.values())
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
            with torch.no_grad():
                for n in noise.values():
                    n -= n.mean()
                    n *= n.square().mean().rsqrt()
    return Code(w=w.detach().expand(-1, g.num_ws, -1), noise={k: n.detach() for k, n in noise.items()})


def tune(g: Generator, image: Tensor, pivot: Code, distance: Distance, cfg: Tune) -> Code:
    """Pivotal tuning on one image [1, 3, R, R], with the settings of ``cfg`` (dense, no locality)."""
    offsets = {
        name: parameter.new_zeros(1, *parameter.shape).requires_grad_(True)
        for name, parameter in g.synthesis.named_parameters()
    }
    adam = torch.optim.Adam(offsets.values(), lr=cfg.lr)
    with fused_modulation():
        for _ in range(cfg.steps):
            rendered = g.synthesize(Code(w=pivot.w, weights=offsets))
            loss = cfg.loss.distance_weight * between(distance.features(rendered), distance.features(image)).sum()
            loss = loss + cfg.loss.mse_weight * (rendered - image).square().mean()
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
    return Code(w=pivot.w, weights={name: o.detach() for name, o in offsets.items()})
