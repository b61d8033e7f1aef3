"""Build a network that a file will fill, without drawing the numbers that it would start from."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_NEW: dict[Any, Callable[..., Tensor]] = {
    torch.rand: torch.empty,
    torch.randn: torch.empty,
    torch.rand_like: torch.empty_like,
    torch.randn_like: torch.empty_like,
}
_IN_PLACE = {
    Tensor.normal_,
    Tensor.uniform_,
    nn.init.kaiming_normal_,
    nn.init.kaiming_uniform_,
    nn.init.normal_,
    nn.init.trunc_normal_,
    nn.init.uniform_,
    nn.init.xavier_normal_,
    nn.init.xavier_uniform_,
}


class without_random_start(TorchFunctionMode):
    """Inside, torch's global random stream is not used: what would come from it is NaN. For an encoder of published size the
    draws take most of the time of building it.

    The caller fills every tensor, or refuses the file. One that it forgets is NaN in every result, where memory left as it is
    could pass for weights; and NaN ends torch's rejection loops (``trunc_normal_``), which other values may not. Constants stay,
    and so does what is drawn from a ``torch.Generator`` of its own, which is wanted for itself.

    Args:
        channels_last: lay new tensors of four dimensions out in this order at once.
    """

    def __init__(self, *, channels_last: bool = False) -> None:
        super().__init__()
        self.channels_last = channels_last

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        if (func not in _NEW and func not in _IN_PLACE) or given.get("generator") is not None:
            return func(*args, **given)
        with torch.no_grad():
            if func in _IN_PLACE:
                return (args[0] if args else given["tensor"]).fill_(math.nan)
            given.pop("generator", None)
            if self.channels_last and len(args) == 4:
                given["memory_format"] = torch.channels_last
            return _NEW[func](*args, **given).fill_(math.nan)
