"""Muon: orthogonalised momentum for matrices and filters, Adam for everything else.

K. Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks". In the warm start of this project's
generator it needs a small fraction of Adam's images for the same loss (``benchmarks/inversion/optimizers.py``).
``torch.optim.Muon`` takes matrices alone and iterates in bfloat16, which
many CPUs only emulate; this one takes convolutions too and stays in the weights' own precision.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ganinv.optim.orthogonal import orthogonalize

SMALLEST = 2000  # elements: below it a weight is cheaper, and as good, with Adam


class Muon(torch.optim.Optimizer):
    """Momentum whose matrix (a filter [O, I, k, k] counts as [O, I*k*k]) is orthogonalised before each step.

    Args:
        lr: size of one step relative to the weight's size when training began (root mean squares): 0.02 is 2 %. So one
            value serves equalised weights, which are N(0, 1), and ordinary ones. A weight that began as zero counts as
            one drawn with variance 1 / fan-in.
        momentum: of the running mean of gradients; the step looks ahead once (Nesterov).
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            moved = [weight for weight in group["params"] if weight.grad is not None]
            ahead = []
            for weight in moved:
                state = self.state[weight]
                if not state:
                    size = float(weight.square().mean().sqrt())
                    state["size"] = size or weight[0].numel() ** -0.5
                    state["mean"] = torch.zeros_like(weight)
                mean = state["mean"]
                mean.lerp_(weight.grad, 1 - group["momentum"])
                ahead.append(weight.grad.lerp(mean, group["momentum"]).flatten(1))
            for weight, step in zip(moved, orthogonalize(ahead), strict=True):
                # An orthogonal [m, n] matrix has elements of root mean square 1 / sqrt(max(m, n)).
                size = group["lr"] * self.state[weight]["size"] * max(step.shape) ** 0.5
                weight.add_(step.reshape(weight.shape), alpha=-size)


class Optimizers:
    """One or several optimisers of one network, as one.

    Args:
        parts: each with its own parameters. Learning rates as they are now are the full ones of ``scale``.
    """

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self.parts = parts
        self.full_rates = [[group["lr"] for group in part.param_groups] for part in parts]

    def scale(self, factor: float) -> None:
        """Set every learning rate to ``factor`` times what it was given as."""
        for part, rates in zip(self.parts, self.full_rates, strict=True):
            for group, rate in zip(part.param_groups, rates, strict=True):
                group["lr"] = rate * factor

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        for part, own in zip(self.parts, state, strict=True):
            part.load_state_dict(own)


class MuonAdam(Optimizers):
    """Both optimisers as one, for a generator or an encoder.

    Args:
        muon_lr, momentum: see ``Muon``; for the weights of convolutions, affines and the mapping.
        adam_lr, betas: for biases, constants, noise strengths and small weights.
        mapping_scale: factor on the learning rates of a mapping network, whose weights all latents share.
        mapping_lr_mul: the mapping's learning-rate multiplier. Its parameters are stored that much larger than they act,
            so that Adam's steps, which know no size, are made as much larger.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        muon_lr: float,
        adam_lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        mapping_scale: float = 1.0,
        mapping_lr_mul: float = 1.0,
    ) -> None:
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, weight in network.named_parameters():
            if not weight.requires_grad:
                continue
            mapping = name.startswith("mapping.")
            matrix = weight.ndim >= 2 and not name.endswith("const") and (mapping or weight.numel() > SMALLEST)
            groups.setdefault((matrix, mapping), []).append(weight)

        def of(matrix: bool, lr: float, mapping: float) -> list[dict[str, Any]]:
            return [
                {"params": p, "lr": lr * (mapping if m else 1.0)} for (kind, m), p in groups.items() if kind == matrix
            ]

        small = of(False, adam_lr, mapping_scale / mapping_lr_mul)
        parts: list[torch.optim.Optimizer] = [torch.optim.Adam(small, lr=adam_lr, betas=betas)] if small else []
        # A very small network may have nothing for Muon; an optimiser of nothing is refused by torch.
        if matrices := of(True, muon_lr, mapping_scale):
            parts.append(Muon(matrices, muon_lr, momentum))
        super().__init__(parts)
