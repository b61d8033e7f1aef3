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
    """

    name: str
    run: str
    seconds: float
    settings: Mapping[str, Any] = field(default_factory=dict)


def _each(name: str, run: str, seconds: float, key: str, values: Mapping[str, Any], **more: Any) -> tuple[Item, ...]:
    return tuple(Item(f"{name}-{label}", run, seconds, {key: value, **more}) for label, value in values.items())


ITEMS = (
    Item("machine", "machine:measure", 15),
    Item("parity-float32", "parity:golden", 40, {"precision": "float32"}),
    *_each("generator", "generator:rates", 30, "size", {"64": "small", "1024": "large"}),
    *_each(
        "jobs-1024", "methods:jobs", 40, "mode", {"plain": "off", "graph": "graph"}, size="large", precision="bfloat16"
    ),
    Item("methods-64", "methods:every", 70, {"size": "small", "mode": "off", "precision": "float32"}),
    Item("steps-64-graph", "methods:jobs", 25, {"size": "small", "mode": "graph", "precision": "float32"}),
    Item("steps-64-plain", "methods:jobs", 25, {"size": "small", "mode": "off", "precision": "float32"}),
    Item("parity-bfloat16", "parity:golden", 30, {"precision": "bfloat16"}),
    Item("distance-bfloat16", "parity:closeness", 30, {"precision": "bfloat16"}),
    Item("fused", "kernels:after_convolution", 30),
    Item("compiled-64", "methods:jobs", 45, {"size": "small", "mode": "step", "precision": "float32"}),
    Item("methods-1024", "methods:every", 60, {"size": "large", "mode": "graph", "precision": "bfloat16"}),
    Item("memory", "methods:memory", 20, {"size": "large", "precision": "bfloat16"}),
    Item("transfers", "machine:transfers", 10),
    Item("parity-tf32", "parity:golden", 20, {"precision": "tf32"}),
    Item("jobs-1024-float32", "methods:jobs", 40, {"size": "large", "mode": "off", "precision": "float32"}),
)
"""Their limits add up to ten minutes."""
