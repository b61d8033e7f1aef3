"""Tune: Pivotal Tuning Inversion (Roich et al. 2022), for a batch of images at once.

The latent is frozen and the generator learns to render the image from it. Every image has its own weights: an offset to
the shared generator with a batch dimension, its own optimiser state, and its own stop.
"""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatch
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ganinv.code import Code
from ganinv.config import StrictModel
from ganinv.errors import ConfigError
from ganinv.generators.stylegan2 import Generator
from ganinv.stages.base import Context, StageResult
from ganinv.stages.objective import ReconstructionLoss
from ganinv.target import Target


class Locality(StrictModel):
    """The locality regulariser (section 3.3): near the pivot, the tuned generator stays what it was.

    At w_r = pivot + alpha * (w_z - pivot) / |w_z - pivot| the tuned image should equal the original one. ``norm: tensor``
    takes the length over all rows (the published code), ``norm: row`` over one row (the paper's text).
    """

    weight: float = Field(0.1, gt=0)
    alpha: float = Field(30.0, gt=0)
    norm: Literal["tensor", "row"] = "tensor"
    truncation_psi: float = 0.5


class Tune(StrictModel):
    """Fine-tune the synthesis network around the frozen latent of each image."""

    kind: Literal["tune"] = "tune"
    steps: int = Field(350, ge=1)
    lr: float = Field(3e-4, gt=0)
    loss: ReconstructionLoss = ReconstructionLoss()
    stop_below: float | None = None
    """Stop an image once its perceptual distance is at most this; the weights that rendered it are kept."""
    layers: tuple[str, ...] = ("*",)
    """Which parameters of the synthesis train, as patterns: ``*``, ``convs.*.weight``, ``torgbs.*``."""
    locality: Locality | None = None

    def __call__(self, target: Target, code: Code | None, context: Context) -> StageResult:
        if code is None:
            raise ValueError("tune needs a stage before it that makes the pivot")
        generator = context.generator
        pivot = code.detach()
        offsets = self._zero_offsets(generator, len(target))
        adam = BatchedAdam(list(offsets.values()), self.lr)
        objective = self.loss.prepare(target, context)
        streams = [context.stream(i, "locality") for i in target.ids]
        active = torch.arange(len(target))
        kept = {name: torch.empty_like(o) for name, o in offsets.items()}
        curves: list[list[float]] = [[] for _ in range(len(target))]
        reasons = ["cap"] * len(target)
        for step in range(self.steps + 1):
            tuned = replace(pivot, weights=offsets)
            images = generator.synthesize(tuned)
            loss, distance = objective(images)
            finished = torch.zeros(len(active), dtype=torch.bool)
            if self.stop_below is not None:
                finished = (distance.detach() <= self.stop_below).cpu()
            if step == self.steps:
                finished[:] = True
            values = loss.detach().tolist()
            for slot, image in enumerate(active.tolist()):
                curves[image].append(values[slot])
                if finished[slot] and step < self.steps:
                    reasons[image] = "threshold"
            if finished.any():
                done, index = active[finished], finished.nonzero().flatten()
                for name, offset in offsets.items():
                    kept[name][done] = offset.detach()[index]
                if finished.all():
                    break
            total = loss.sum()
            if self.locality is not None:
                total = total + self._locality(generator, pivot, offsets, streams)
            adam.step(torch.autograd.grad(total, list(offsets.values())))
            if finished.any():
                # Finished images leave: nothing moves them any more and nothing is spent on them.
                stay = (~finished).nonzero().flatten()
                active, pivot = active[stay], pivot[stay]
                adam.keep(stay)
                objective.keep(stay)
                streams = [streams[i] for i in stay.tolist()]
                offsets = dict(zip(offsets, adam.parameters, strict=True))
        final = replace(code, weights=kept)
        return StageResult(final.detach(), curves, [len(c) - 1 for c in curves], reasons)

    def _zero_offsets(self, generator: Generator, batch: int) -> dict[str, Tensor]:
        names = [n for n, _ in generator.synthesis.named_parameters() if any(fnmatch(n, p) for p in self.layers)]
        if not names:
            raise ConfigError(
                f"tune.layers {list(self.layers)} match no parameter; names look like convs.3.weight, torgbs.1.bias, const"
            )
        parameters = dict(generator.synthesis.named_parameters())
        return {n: parameters[n].new_zeros((batch, *parameters[n].shape)).requires_grad_(True) for n in names}

    def _locality(
        self, generator: Generator, pivot: Code, offsets: dict[str, Tensor], streams: list[torch.Generator]
    ) -> Tensor:
        assert self.locality is not None
        cfg = self.locality
        z = torch.stack([torch.randn(generator.z_dim, generator=s) for s in streams]).to(pivot.w.device)
        w_z = generator.map(z, truncation_psi=cfg.truncation_psi)
        away = w_z - pivot.w
        length = away.square().sum(dim=(1, 2) if cfg.norm == "tensor" else 2, keepdim=True).sqrt()
        w_r = pivot.w + cfg.alpha * away / length
        with torch.no_grad():
            before = generator.synthesize(Code(w=w_r), noise="none")
        after = generator.synthesize(Code(w=w_r, weights=offsets), noise="none")
        return cfg.weight * (after - before).square().mean(dim=(1, 2, 3)).sum()


class BatchedAdam:
    """Adam over tensors whose first dimension is the image; images can leave (``keep``) with their state."""

    def __init__(self, parameters: list[Tensor], lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        self.parameters, self.lr, self.betas, self.steps = parameters, lr, betas, 0
        self._first = [torch.zeros_like(p) for p in parameters]
        self._second = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(self, gradients: tuple[Tensor, ...]) -> None:
        self.steps += 1
        beta1, beta2 = self.betas
        torch._foreach_lerp_(self._first, gradients, 1 - beta1)
        torch._foreach_mul_(self._second, beta2)
        torch._foreach_addcmul_(self._second, gradients, gradients, 1 - beta2)
        scale = torch._foreach_sqrt(self._second)
        torch._foreach_div_(scale, (1 - beta2**self.steps) ** 0.5)
        torch._foreach_add_(scale, 1e-8)
        torch._foreach_addcdiv_(self.parameters, self._first, scale, -self.lr / (1 - beta1**self.steps))

    @torch.no_grad()
    def keep(self, index: Tensor) -> None:
        self.parameters = [p.detach()[index].requires_grad_(True) for p in self.parameters]
        self._first = [m[index] for m in self._first]
        self._second = [v[index] for v in self._second]
