"""What must be put right before torchvision can be imported."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path
from typing import Any

import torch

# Operators that torchvision's Python code refers to while it is imported.
_SCHEMAS = (
    ("nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
    ("qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
)

_fragments: list[Any] = []  # a library's definitions vanish with the object


def ensure_torchvision() -> bool:
    """Make ``import torchvision`` (and with it ``lpips``) work; call it before the first import of either.

    The package registry holds torchvision only as a CUDA build. Beside a CPU build of torch its compiled operators
    cannot be loaded, and the import fails with "operator torchvision::nms does not exist". Declaring those operators
    without an implementation is enough for models, transforms and LPIPS; box operators and ``torchvision.io`` stay
    out of reach, so decode images with Pillow.

    Returns:
        True when torchvision has its compiled operators, False when it works without them (or is not installed).
    """
    if _declared("nms"):
        return not _fragments
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    compiled = Path(spec.origin).parent.glob("_C*")
    if any(_loads(path) for path in sorted(compiled)) and _declared("nms"):
        return True
    fragment = torch.library.Library("torchvision", "FRAGMENT")
    for name, signature in _SCHEMAS:
        if not _declared(name):
            fragment.define(name + signature)
    _fragments.append(fragment)
    return False


def _loads(path: Path) -> bool:
    if path.suffix not in {".so", ".pyd", ".dylib"}:
        return False
    try:
        ctypes.CDLL(str(path))
    except OSError:
        return False
    return True


def _declared(name: str) -> bool:
    return bool(torch._C._jit_get_schemas_for_operator(f"torchvision::{name}"))
