"""Ranger: RAdam, Lookahead and gradient centralisation in one (Wright 2019; its parts: Liu et al. 2020, Zhang et al. 2019,
Yong et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


class Ranger(torch.optim.RAdam):
    """RAdam on centred gradients; every ``k`` steps the weights return part of the way to where they were k steps ago.

    Args:
        lr: learning rate. alpha: share of the way that is kept. k: steps between two looks back.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.95, 0.999),
        eps: float = 1e-5,
        alpha: float = 0.5,
        k: int = 6,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps)
        self.alpha, self.k = alpha, k

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        learned = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        slow = {p: p.detach().clone() for p in learned if "slow" not in self.state[p]}
        for p in learned:
            assert p.grad is not None
            if p.ndim > 1:
                p.grad.sub_(p.grad.mean(dim=tuple(range(1, p.ndim)), keepdim=True))
        before = {p: self.state[p].pop("slow") for p in learned if "slow" in self.state[p]} | slow
        super().step()
        for p in learned:
            state = self.state[p]
            if int(state["step"]) % self.k == 0:
                before[p].lerp_(p, self.alpha)
                p.copy_(before[p])
            state["slow"] = before[p]
