"""Optimise a latent of a frozen generator: the StyleGAN2 projector (Karras et al. 2020, appendix D) and its W+ form
(Image2StyleGAN, Abdal et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ganinv.code import Code
from ganinv.config import StrictModel
from ganinv.stages.base import Context, StageResult
from ganinv.stages.objective import ReconstructionLoss
from ganinv.target import Target


class Optimize(StrictModel):
    """Adam on w (one row, ``space: w``) or on all rows (``w+``), from the mean latent or from the code so far.

    The loss is summed over the images and every image has its own random stream, so an image's result does not depend on
    its batch. Noise maps, when optimised, are part of the result and stay fixed in edits.
    """

    kind: Literal["optimize"] = "optimize"
    space: Literal["w", "w+"] = "w"
    start: Literal["mean", "code"] = "mean"
    steps: int = Field(200, ge=1)
    lr: float = Field(0.1, gt=0)
    lr_rampup: float = Field(0.05, ge=0, le=1)
    """Share of the steps over which the learning rate rises linearly from zero."""
    lr_rampdown: float = Field(0.25, ge=0, le=1)
    """Share of the steps over which it falls along a cosine to zero."""
    loss: ReconstructionLoss = ReconstructionLoss()
    latent_noise: float = Field(0.05, ge=0)
    """Noise added to w, in units of ``w_std``; falls quadratically to zero at ``latent_noise_end``."""
    latent_noise_end: float = Field(0.75, gt=0, le=1)
    noise_maps: Literal["stored", "optimize"] = "stored"
    noise_regularization: float = Field(1e5, ge=0)

    def __call__(self, target: Target, code: Code | None, context: Context) -> StageResult:
        generator = context.generator
        w = self._start(target, code, context)
        streams = [context.stream(i, "optimize") for i in target.ids]
        noise = _random_noise(generator, streams) if self.noise_maps == "optimize" else {}
        optimizer = torch.optim.Adam([w, *noise.values()], betas=(0.9, 0.999))
        objective = self.loss.prepare(target, context)
        curves: list[Tensor] = []
        for step in range(self.steps):
            t = step / self.steps
            optimizer.param_groups[0]["lr"] = self.lr * self.lr_factor(t)
            scale = self.latent_noise * float(generator.w_std) * self.latent_noise_factor(t)
            noisy = w + scale * _normal(streams, w) if scale > 0 else w
            rows = noisy.expand(-1, generator.num_ws, -1)
            images = generator.synthesize(Code(w=rows, noise=noise or None))
            loss, _ = objective(images)
            total = loss.sum()
            if noise:
                total = total + self.noise_regularization * sum(noise_correlation(n).sum() for n in noise.values())
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            optimizer.step()
            _renormalize(noise)
            curves.append(loss.detach())
        final = Code(
            w=w.detach().expand(-1, generator.num_ws, -1), noise={k: n.detach() for k, n in noise.items()} or None
        )
        count = len(target)
        return StageResult(final, torch.stack(curves, 1).tolist(), [self.steps] * count, ["cap"] * count)

    def lr_factor(self, t: float) -> float:
        """Learning-rate schedule at t in [0, 1): linear rise, plateau, cosine fall."""
        down = min(1.0, (1 - t) / self.lr_rampdown) if self.lr_rampdown else 1.0
        up = min(1.0, t / self.lr_rampup) if self.lr_rampup else 1.0
        return (0.5 - 0.5 * math.cos(math.pi * down)) * up

    def latent_noise_factor(self, t: float) -> float:
        """Strength of the latent noise at t in [0, 1)."""
        return max(0.0, 1 - t / self.latent_noise_end) ** 2

    def _start(self, target: Target, code: Code | None, context: Context) -> Tensor:
        generator = context.generator
        rows = 1 if self.space == "w" else generator.num_ws
        if self.start == "code":
            if code is None:
                raise ValueError("optimize with start: code needs a stage before it that makes one")
            w = code.w if rows > 1 else code.w.mean(dim=1, keepdim=True)
        else:
            w = generator.w_mean.expand(len(target), rows, -1)
        return w.detach().clone().requires_grad_(True)


def noise_correlation(noise: Tensor) -> Tensor:
    """The projector's noise regulariser per image, for maps [B, 1, r, r]: squared auto-correlation at shift one, on a
    pyramid of halved sizes down to 8. White noise gives about 1/pixels, a constant map 2 per level."""
    total = noise.new_zeros(len(noise))
    while True:
        for dim in (2, 3):
            total = total + (noise * noise.roll(1, dim)).mean(dim=(1, 2, 3)).square()
        if noise.shape[-1] <= 8:
            return total
        noise = torch.nn.functional.avg_pool2d(noise, 2)


def _random_noise(generator: torch.nn.Module, streams: Sequence[torch.Generator]) -> dict[int, Tensor]:
    maps = {}
    for k, layer in enumerate(generator.synthesis.convs):  # type: ignore[union-attr,arg-type]
        shape = (1, layer.resolution, layer.resolution)
        drawn = torch.stack([torch.randn(shape, generator=s) for s in streams])
        maps[k] = drawn.to(layer.noise.device).requires_grad_(True)
    return maps


@torch.no_grad()
def _renormalize(noise: dict[int, Tensor]) -> None:
    """Zero mean and unit mean square, for every map of every image."""
    for n in noise.values():
        n -= n.mean(dim=(1, 2, 3), keepdim=True)
        n *= n.square().mean(dim=(1, 2, 3), keepdim=True).rsqrt()


def _normal(streams: Sequence[torch.Generator], like: Tensor) -> Tensor:
    """One draw per image in the shape of ``like``, each from the image's own stream."""
    return torch.stack([torch.randn(like.shape[1:], generator=s) for s in streams]).to(like.device)
