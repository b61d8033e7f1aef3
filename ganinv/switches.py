"""Variables of the environment that change what is computed. Read by libraries that know nothing of this project."""

from __future__ import annotations

import os

CNR = "MKL_CBWR"
"""Of Intel's oneMKL: "conditional numerical reproducibility". ``AUTO,STRICT`` takes the best kernels of the processor, and of
these the ones whose sums do not depend on how a product is cut (Developer Guide, "Reproducibility Conditions": ``gemm``, AVX2
and AVX-512). It is read at the library's first product, not when it is loaded. Other libraries ignore it."""

SWITCHES = (
    CNR,
    "GANINV_FAST",  # ganinv.generators.fast
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ATEN_CPU_CAPABILITY",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "CUBLAS_WORKSPACE_CONFIG",
)
"""What a worker elsewhere must have as the process has it that asks for the work."""


def prefer_reproducible_products() -> None:
    """Ask oneMKL for products whose rows do not depend on how many rows there are. What somebody chose stays."""
    os.environ.setdefault(CNR, "AUTO,STRICT")


def switches_set() -> dict[str, str]:
    """Those that have a value here."""
    return {name: os.environ[name] for name in SWITCHES if name in os.environ}
