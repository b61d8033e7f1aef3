"""Optimisers for many independent problems at once: row i of every tensor is image i, at its own step.

Everything is element-wise over the rows, so an image's path does not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ganinv.optim.orthogonal import orthogonalize

State = dict[str, Tensor]


class Matrix(NamedTuple):
    """A matrix in a row of values: elements ``at`` to ``at + rows * columns``."""

    at: int
    rows: int
    columns: int


class Optimizer(Protocol):
    """One step for every row at once."""

    def start(self, x: Tensor) -> State:
        """The state for rows x [B, D]: tensors [B, ...]. All that an optimiser remembers of x is in it."""
        ...

    def step(
        self,
        x: Tensor,
        gradient: Tensor,
        loss: Tensor,
        lr: Tensor,
        count: Tensor,
        move: Tensor,
        s: State,
        matrices: Sequence[Matrix] = (),
    ) -> None:
        """Moves x [B, D] and the state in place.

        Args:
            loss: [B], at x. lr: [B, 1] or [B, D]. count: [B], steps made before this one. move: [B] bool, rows that move.
            matrices: which parts of a row are matrices.
        """
        ...

    def result(self, x: Tensor, s: State) -> Tensor:
        """The best answer so far, [B, D]."""
        ...


class Adam:
    """Adam (Kingma and Ba 2015)."""

    def __init__(self, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        self.betas, self.eps = betas, eps

    def start(self, x: Tensor) -> State:
        return {"first": torch.zeros_like(x), "second": torch.zeros_like(x)}

    @torch.no_grad()
    def step(
        self,
        x: Tensor,
        gradient: Tensor,
        loss: Tensor,
        lr: Tensor,
        count: Tensor,
        move: Tensor,
        s: State,
        matrices: Sequence[Matrix] = (),
    ) -> None:
        beta1, beta2 = self.betas
        # A finished row must not pick up a gradient that is not finite.
        gradient = torch.where(move[:, None], gradient, 0.0)
        s["first"].lerp_(gradient, 1 - beta1)
        s["second"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        done = (count + 1)[:, None].to(x.dtype)
        scale = s["second"].sqrt().mul_((1 - beta2**done).rsqrt()).add_(self.eps)
        x.sub_((lr * move[:, None] / (1 - beta1**done)) * s["first"] / scale)

    def result(self, x: Tensor, s: State) -> Tensor:
        return x


class BatchedMuon:
    """Muon (Jordan et al. 2024) for matrices, Adam for everything else.

    The step of a matrix is its momentum, orthogonalised: every direction of it moves equally far, where Adam's steps are
    nearly of rank one. The learning rate is the root mean square of a step's elements.

    Args:
        momentum: of the running mean of gradients; the step looks ahead once (Nesterov).
        vectors: factor on the learning rate of what is not a matrix.
    """

    def __init__(self, momentum: float = 0.9, vectors: float = 0.25) -> None:
        self.momentum, self.vectors = momentum, vectors
        self._adam = Adam()

    def start(self, x: Tensor) -> State:
        return {"mean": torch.zeros_like(x), **self._adam.start(x)}

    @torch.no_grad()
    def step(
        self,
        x: Tensor,
        gradient: Tensor,
        loss: Tensor,
        lr: Tensor,
        count: Tensor,
        move: Tensor,
        s: State,
        matrices: Sequence[Matrix] = (),
    ) -> None:
        gradient = torch.where(move[:, None], gradient, 0.0)
        before = x.clone()
        self._adam.step(x, gradient, loss, lr * self.vectors, count, move, s)
        s["mean"].lerp_(gradient, 1 - self.momentum)
        ahead = gradient.lerp(s["mean"], self.momentum)
        size = lr * move[:, None]
        parts = [slice(at, at + rows * columns) for at, rows, columns in matrices]
        shaped = [ahead[:, p].reshape(-1, rows, columns) for p, (_, rows, columns) in zip(parts, matrices, strict=True)]
        for part, step in zip(parts, orthogonalize(shaped), strict=True):
            # An orthogonal [m, n] matrix has elements of root mean square 1 / sqrt(max(m, n)).
            x[:, part] = before[:, part] - size * max(step.shape[1:]) ** 0.5 * step.flatten(1)

    def result(self, x: Tensor, s: State) -> Tensor:
        return x


class LBFGS:
    """Limited-memory BFGS (Liu and Nocedal 1989) with a backtracking line search (Armijo), one evaluation per step.

    A step that does not lower the loss enough is halved and tried again; after ``tries`` of them the memory is dropped and
    the search continues along the gradient.
    """

    def __init__(self, memory: int = 10, tries: int = 6, sufficient: float = 1e-4) -> None:
        self.memory, self.tries, self.sufficient = memory, tries, sufficient

    def start(self, x: Tensor) -> State:
        rows, size = x.shape
        return {
            "x": x.clone(),
            "g": torch.zeros_like(x),
            "f": x.new_full((rows,), float("inf")),
            "d": torch.zeros_like(x),
            "t": x.new_ones(rows),
            "tried": x.new_zeros(rows),
            "ds": x.new_zeros(rows, self.memory, size),
            "dg": x.new_zeros(rows, self.memory, size),
            "rho": x.new_zeros(rows, self.memory),
        }

    @torch.no_grad()
    def step(
        self,
        x: Tensor,
        gradient: Tensor,
        loss: Tensor,
        lr: Tensor,
        count: Tensor,
        move: Tensor,
        s: State,
        matrices: Sequence[Matrix] = (),
    ) -> None:
        slope = (s["g"] * s["d"]).sum(1)
        good = (loss <= s["f"] + self.sufficient * s["t"] * slope) & move
        ds, dg = x - s["x"], gradient - s["g"]
        curvature = (ds * dg).sum(1)
        learn = good & (count > 0) & (curvature > 1e-10 * dg.square().sum(1))
        for name, value in (("ds", ds), ("dg", dg), ("rho", 1 / curvature)):
            rolled = torch.cat([s[name][:, 1:], value[:, None]], dim=1)
            s[name] = _where(learn, rolled, s[name])
        s["x"], s["g"] = _where(good, x, s["x"]), _where(good, gradient, s["g"])
        s["f"] = torch.where(good, loss, s["f"])

        tried = torch.where(good, 0.0, s["tried"] + 1)
        lost = move & ~good & (tried >= self.tries)
        s["rho"] = _where(lost, torch.zeros_like(s["rho"]), s["rho"])  # rho = 0 is an empty entry
        direction = self._direction(s)
        downhill = (direction * s["g"]).sum(1) < 0
        direction = _where(downhill, direction, -s["g"])
        # Without curvature known, a first step of the length that Adam would take per coordinate.
        first = ~s["rho"].any(1)
        unit = lr.expand_as(x).amax(1) if lr.ndim == 2 else lr
        length = torch.where(first, (1 / s["g"].abs().sum(1).clamp_min(1e-12)).clamp_max(1.0), 1.0) * unit
        fresh = good | lost
        s["d"] = _where(fresh, direction, s["d"])
        s["t"] = torch.where(fresh, torch.where(lost, 0.1 * length, length), 0.5 * s["t"])
        s["tried"] = torch.where(lost, 0.0, tried)
        x.copy_(_where(move, s["x"] + s["t"][:, None] * s["d"], x))

    def result(self, x: Tensor, s: State) -> Tensor:
        return s["x"]

    def _direction(self, s: State) -> Tensor:
        """The two-loop recursion: minus the inverse Hessian times the gradient."""
        q, alphas = s["g"].clone(), []
        for i in reversed(range(self.memory)):
            alpha = s["rho"][:, i] * (s["ds"][:, i] * q).sum(1)
            alphas.append(alpha)
            q = q - alpha[:, None] * s["dg"][:, i]
        newest = s["dg"][:, -1].square().sum(1) * s["rho"][:, -1]
        q = q / torch.where(newest > 0, newest, 1.0)[:, None]
        for i, alpha in zip(range(self.memory), reversed(alphas), strict=True):
            beta = s["rho"][:, i] * (s["dg"][:, i] * q).sum(1)
            q = q + (alpha - beta)[:, None] * s["ds"][:, i]
        return -q


def _where(rows: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Rows of a where ``rows`` [B] holds, else of b."""
    return torch.where(rows.reshape(-1, *[1] * (a.ndim - 1)), a, b)
