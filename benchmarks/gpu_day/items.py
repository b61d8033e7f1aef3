"""What is measured, in the order in which it matters, and how long each item may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Item:
    """One measurement, in a process of its own.

    Args:
        run: ``module:function`` of this package; it is given a ``Bench`` and ``settings``.
        seconds: how long it may take at most, once it was told to begin.
        same_code_as: the item that runs the same code with another size or precision; a dry run leaves this one out.
    """

    name: str
    run: str
    seconds: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    same_code_as: str | None = None


# A dry run shows that everything runs, not how fast: of items that differ in size or precision alone it takes one. Kept are the
# cheapest, but steps-64-graph rather than jobs-1024-graph: methods-1024 has graphs at that size and precision already. TF32 is
# float32 where there are no tensor cores; bfloat16 is other code in parity, so both are kept there. Compiled steps take
# a processor more than a minute: tests/tasks/test_compiling.py compiles smaller ones.
ITEMS = (
    Item("machine", "machine:measure", 15),
    Item("parity-float32", "parity:golden", 40, {"precision": "float32"}),
    Item("generator-64", "generator:rates", 30, {"size": "small"}, same_code_as="generator-1024"),
    Item("generator-1024", "generator:rates", 30, {"size": "large"}),
    Item("jobs-1024-plain", "methods:jobs", 40, {"size": "large", "mode": "off", "precision": "bfloat16"}),
    Item(
        "jobs-1024-graph", "methods:jobs", 40, {"size": "large", "mode": "graph", "precision": "bfloat16"},
        same_code_as="steps-64-graph",
    ),
    Item("methods-64", "methods:every", 70, {"size": "small", "mode": "off", "precision": "float32"}),
    Item("steps-64-graph", "methods:jobs", 25, {"size": "small", "mode": "graph", "precision": "float32"}),
    Item(
        "steps-64-plain", "methods:jobs", 25, {"size": "small", "mode": "off", "precision": "float32"},
        same_code_as="jobs-1024-plain",
    ),
    Item("parity-bfloat16", "parity:golden", 30, {"precision": "bfloat16"}),
    Item("distance-bfloat16", "parity:closeness", 30, {"precision": "bfloat16"}),
    Item("fused", "kernels:after_convolution", 30),
    Item(
        "compiled-64", "methods:jobs", 45, {"size": "small", "mode": "step", "precision": "float32"},
        same_code_as="steps-64-graph",
    ),
    Item("methods-1024", "methods:every", 60, {"size": "large", "mode": "graph", "precision": "bfloat16"}),
    Item("memory", "methods:memory", 20, {"size": "large", "precision": "bfloat16"}),
    Item("transfers", "machine:transfers", 10),
    Item("parity-tf32", "parity:golden", 20, {"precision": "tf32"}, same_code_as="parity-float32"),
    Item(
        "jobs-1024-float32", "methods:jobs", 40, {"size": "large", "mode": "off", "precision": "float32"},
        same_code_as="jobs-1024-plain",
    ),
)  # fmt: skip
"""Their limits add up to ten minutes."""

DRY = tuple(item for item in ITEMS if item.same_code_as is None)
"""What a dry run takes."""
