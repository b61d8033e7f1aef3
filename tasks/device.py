"""The device that a worker computes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_on_cpu = False


def default_device() -> str:
    """``cuda`` if this process sees a GPU and has not been told not to use it. Ray's workers see only the GPUs assigned to
    them."""
    return "cuda" if not _on_cpu and torch.cuda.is_available() else "cpu"


@contextmanager
def on_cpu(wanted: bool = True) -> Iterator[None]:
    """A block in which this process computes on its CPU, whatever it sees. For the inline engine without a GPU."""
    global _on_cpu
    before, _on_cpu = _on_cpu, _on_cpu or wanted
    try:
        yield
    finally:
        _on_cpu = before
