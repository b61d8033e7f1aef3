"""Collective operations of the workers of one training."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn


def average_gradients(parameters: Iterable[nn.Parameter], world: int) -> None:
    """Replace every worker's gradients by the mean over all workers, in one exchange. Does nothing for a single worker.

    Gradients are averaged by hand, not by wrapping networks: a step of an inverter has several backward passes, and calls its
    networks by other methods than ``forward``.
    """
    if world == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def same_start(network: nn.Module, world: int) -> None:
    """Give every worker the weights of the first one."""
    if world == 1:
        return
    with torch.no_grad():
        for tensor in network.state_dict().values():
            dist.broadcast(tensor, 0)


def agreed(value: Tensor, world: int) -> Tensor:
    """The mean of all workers' ``value``, detached: what a training keeps beside its weights must be the same for all."""
    value = value.detach().clone()
    if world > 1:
        dist.all_reduce(value)
        value /= world
    return value


def gathered(rows: Tensor, world: int) -> Tensor:
    """All workers' rows [N, ...], in the order of their ranks and without gradients: [N * world, ...]."""
    rows = rows.detach()
    if world == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(world)]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)
