"""Does the rest of a batch leave a trace in an image's result here? Whether rows of a product have the same bits in any batch is
up to the processor and its library, so it is measured where the work is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.stages.batches import STRIDE

MANY = 16
"""Rows of the larger batch: what methods work on at once."""

Operation = Callable[[Tensor, Tensor], Tensor]
"""(rows [B, ...], shared weights, or those of each row [B, ...]) -> what becomes of the rows [B, ...]."""


def gradient(of: Operation, own: bool = False) -> Operation:
    """The gradient of an operation's squared sum to its rows; and to each row's weights, where it has its ``own``."""

    def operation(x: Tensor, weight: Tensor) -> Tensor:
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_(True), weight.detach().requires_grad_(own)]
            grads = torch.autograd.grad(of(*leaves).square().sum(), leaves[: 1 + own])
        return torch.cat([g.flatten(1) for g in grads], dim=1)

    return operation


PRODUCTS: Mapping[str, Operation] = {
    "matmul": lambda x, a: x @ a,
    "linear": lambda x, a: F.linear(x, a.t(), a[0]),
    "batched product": lambda x, a: torch.bmm(x[:, None], a).squeeze(1),
    "convolution": lambda x, a: F.conv2d(x, a, padding=1),
}
OPERATIONS: Mapping[str, Operation] = {
    **PRODUCTS,
    **{f"gradient of {name}": gradient(operation, name == "batched product") for name, operation in PRODUCTS.items()},
}
"""What stages are made of, and what flows back through it."""


def has_own_weights(name: str) -> bool:
    """Whether each row has weights of its own in an operation."""
    return name.endswith("batched product")


def example(
    name: str, width: int, out: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Rows [16, ...] and weights for an operation of some width."""
    random = torch.Generator().manual_seed(width + out)
    draw = lambda *shape: torch.randn(*shape, generator=random).to(device, dtype)  # noqa: E731
    if name.endswith("convolution"):
        return draw(MANY, width, 4, 4), draw(out, width, 3, 3)
    return draw(MANY, width), draw(*((MANY,) if has_own_weights(name) else ()), width, out)


def leaves_a_trace(operation: Operation, x: Tensor, weight: Tensor, own: bool) -> bool:
    """Whether any ``STRIDE`` rows alone come out otherwise than among all; ``own``: each row has weights of its own."""
    together = operation(x, weight)
    for first in range(0, len(x), STRIDE):
        some = slice(first, first + STRIDE)
        if not torch.equal(operation(x[some], weight[some] if own else weight), together[some]):
            return True
    return False


@cache
def traces(device: str = "cpu", dtype: torch.dtype = torch.float32) -> tuple[str, ...]:
    """The operations in which an image's result depends on its batch, such as ``matmul 512x512``. Empty: it does not.

    Takes a few milliseconds, once for each device and dtype of a process.
    """
    cases = [(name, *size) for name in ("matmul", "gradient of linear") for size in ((128, 128), (512, 18), (512, 512))]
    cases += [("gradient of batched product", 32, 32), ("gradient of convolution", 16, 16)]
    with torch.no_grad():
        found = [
            f"{name} {width}x{out}"
            for name, width, out in cases
            if leaves_a_trace(OPERATIONS[name], *example(name, width, out, device, dtype), has_own_weights(name))
        ]
    return tuple(found)
