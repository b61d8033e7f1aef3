"""One generator tuned on several images (PTI, Roich et al. 2022, section 4; MyStyle, Nitzan et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.optim.batched import Matrix, Optimizer
from ganinv.stages.base import Context, StageResult
from ganinv.stages.objective import Objective
from ganinv.stages.variables import DescentStep, Weights
from ganinv.target import Target


@dataclass
class TogetherStep:
    """Random numbers of one step on some images."""

    streams: Sequence[torch.Generator]
    device: torch.device

    def scheduled(self, curve: Callable[[float], float]) -> Tensor | None:
        """Nothing that weights do depends on how far the stage is."""
        return None

    def once(self, name: str, read: Callable[[], float]) -> float:
        return read()

    def normal(self, purpose: str, shape: Sequence[int]) -> Tensor:
        """[images, *shape] from N(0, 1), each image's from its own stream."""
        return torch.stack([torch.randn(*shape, generator=stream) for stream in self.streams]).to(self.device)


def tune_together(
    target: Target,
    code: Code,
    weights: Weights,
    objective: Objective,
    context: Context,
    optimizer: Optimizer,
    *,
    epochs: int,
    at_once: int = 1,
    lr: float,
    schedule: Callable[[float], float],
    extra_loss: Callable[[Code, DescentStep], Tensor] | None = None,
) -> StageResult:
    """``epochs`` passes over the images, on one set of weights: a step for each group of up to ``at_once`` images.

    An image is in the same group in every pass: of N groups the k-th has every N-th image from the k-th on, so that groups of a
    video's frames have something of all of it. The result's weights have a leading dimension of 1: the batch shares them. Here,
    alone among the stages that optimise, images do depend on each other: that is the point.
    """
    generator, code = context.generator, code.detach()
    start = weights.start(code[:1], target.ids[:1], context)
    x = {name: value.clone() for name, value in start.items()}
    one = torch.ones(1, dtype=torch.bool, device=generator.device)
    state = {name: optimizer.start(value.reshape(1, -1)) for name, value in x.items()}
    matrices = {name: [_matrix(value)] if weights.is_matrix(name) else [] for name, value in x.items()}
    number = -(-len(target) // at_once)
    groups = [list(range(k, len(target), number)) for k in range(number)]
    streams = [context.stream(i, "together") for i in target.ids]
    draws = [TogetherStep([streams[i] for i in group], generator.device) for group in groups]
    references = [objective.reference(group) for group in groups]
    curves: list[list[Tensor]] = [[] for _ in groups]
    count = torch.zeros(1, device=generator.device)
    for epoch in range(epochs):
        factor = torch.full((1, 1), lr * schedule(epoch / epochs), device=generator.device)
        for k, group in enumerate(groups):
            leaves = {name: value.detach().requires_grad_(True) for name, value in x.items()}
            tuned = weights.put(code[group], leaves, generator, None)
            loss, _ = objective(generator.synthesize(tuned), tuned, references[k])
            curves[k].append(loss.detach())
            if extra_loss is not None:
                loss = loss + extra_loss(tuned, draws[k])
            gradients = torch.autograd.grad(loss.mean(), list(leaves.values()))
            mean = loss.detach().mean(0, keepdim=True)
            for (name, value), gradient in zip(x.items(), gradients, strict=True):
                row, slope = value.view(1, -1), gradient.reshape(1, -1)
                optimizer.step(row, slope, mean, factor, count, one, state[name], matrices[name])
            count += 1
    result = weights.put(code, x, generator, None).detach()
    losses: list[list[float]] = [[] for _ in target.ids]
    for group, curve in zip(groups, curves, strict=True):
        for i, values in zip(group, torch.stack(curve, 1).tolist(), strict=True):
            losses[i] = values
    broken = [not all(map(_finite, curve)) for curve in losses]
    reasons = ["not_finite" if any(broken) else "cap"] * len(target)
    return StageResult(result, losses, [epochs] * len(target), reasons)


def _matrix(value: Tensor) -> Matrix:
    """All of a tensor [1, O, ...] as a matrix [O, I]."""
    return Matrix(0, value.shape[1], value[0, 0].numel())


def _finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")
