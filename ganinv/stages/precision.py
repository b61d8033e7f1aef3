"""What ``precision: auto`` of a method is here: bfloat16 where the processor computes in it by itself, else float32."""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch

from ganinv.stages.company import traces

Precision = Literal["float32", "bfloat16"]


def choose_precision(wanted: Literal["auto"] | Precision, device: torch.device | str = "cpu") -> Precision:
    """``auto`` is bfloat16 on a processor with instructions for it (AVX512-BF16, or AMX), where an image's result does not
    depend on its batch in it either, as it does not in float32. On a GPU it is float32, until one has been measured
    (``benchmarks/gpu_day``). The others are themselves.

    A run that several machines share asks once and hands the answer on: the plan has it.
    """
    if wanted != "auto":
        return wanted
    on_cpu = torch.device(device).type == "cpu"
    return "bfloat16" if on_cpu and has_bfloat16() and not traces("cpu", torch.bfloat16) else "float32"


@cache
def has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16; others do so by way of float32, and gain nothing."""
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in asked)
