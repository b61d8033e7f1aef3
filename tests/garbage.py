"""What code leaves to the cycle collector: memory that nobody can reach, and that goes only when the collector pleases."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch


def left_in_cycles(call: Callable[[], Any], *kinds: type) -> list[str]:
    """The objects of some kinds, by default tensors, that a call leaves in reference cycles once its result is gone.

    The call is made twice: what a first call keeps (modules, caches) is not garbage, but may be in cycles.
    """
    call()
    gc.collect()
    was = gc.isenabled()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        call()
        gc.collect()
        return [type(each).__name__ for each in gc.garbage if type(each) in (kinds or (torch.Tensor,))]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        if was:
            gc.enable()
