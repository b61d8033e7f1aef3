"""One generator tuned on several images (PTI, Roich et al. 2022, section 4; MyStyle, Nitzan et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.optim.batched import Adam
from ganinv.stages.base import Context, StageResult
from ganinv.stages.objective import Objective
from ganinv.stages.variables import DescentStep, Weights
from ganinv.target import Target


@dataclass
class TogetherStep:
    """Random numbers of one step on one image."""

    stream: torch.Generator
    device: torch.device

    def scheduled(self, curve: Callable[[float], float]) -> Tensor | None:
        """Nothing that weights do depends on how far the stage is."""
        return None

    def once(self, name: str, read: Callable[[], float]) -> float:
        return read()

    def normal(self, purpose: str, shape: Sequence[int]) -> Tensor:
        """[1, *shape] from N(0, 1)."""
        return torch.randn(1, *shape, generator=self.stream).to(self.device)


def tune_together(
    target: Target,
    code: Code,
    weights: Weights,
    objective: Objective,
    context: Context,
    *,
    epochs: int,
    lr: float,
    schedule: Callable[[float], float],
    extra_loss: Callable[[Code, DescentStep], Tensor] | None = None,
) -> StageResult:
    """``epochs`` passes over the images in their order, one Adam step each, on one set of weights.

    The result's weights have a leading dimension of 1: the batch shares them. Here, alone among the stages, images do
    depend on each other: that is the point.
    """
    generator, code = context.generator, code.detach()
    start = weights.start(code[:1], target.ids[:1], context)
    x = {name: value.clone() for name, value in start.items()}
    adam, one = Adam(), torch.ones(1, dtype=torch.bool, device=generator.device)
    state = {name: adam.start(value.reshape(1, -1)) for name, value in x.items()}
    draws = [TogetherStep(context.stream(i, "together"), generator.device) for i in target.ids]
    references = [objective.reference([i]) for i in range(len(target))]
    curves: list[list[Tensor]] = [[] for _ in target.ids]
    count = torch.zeros(1, device=generator.device)
    for epoch in range(epochs):
        factor = torch.full((1, 1), lr * schedule(epoch / epochs), device=generator.device)
        for i, curve in enumerate(curves):
            leaves = {name: value.detach().requires_grad_(True) for name, value in x.items()}
            tuned = weights.put(code[i], leaves, generator, None)
            loss, _ = objective(generator.synthesize(tuned), tuned, references[i])
            curve.append(loss.detach())
            if extra_loss is not None:
                loss = loss + extra_loss(tuned, draws[i])
            gradients = torch.autograd.grad(loss.sum(), list(leaves.values()))
            for (name, value), gradient in zip(x.items(), gradients, strict=True):
                adam.step(value.view(1, -1), gradient.reshape(1, -1), loss, factor, count, one, state[name])
            count += 1
    result = weights.put(code, x, generator, None).detach()
    losses = [torch.cat(curve).tolist() for curve in curves]
    broken = [not all(map(_finite, losses[i])) for i in range(len(target))]
    reasons = ["not_finite" if any(broken) else "cap"] * len(target)
    return StageResult(result, losses, [epochs] * len(target), reasons)


def _finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")
