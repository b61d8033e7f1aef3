"""Weights of NVIDIA's golden pickles, read without their importer: an independent view for tests of the networks."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganinv.generators.config import GeneratorConfig
from ganinv.generators.stylegan2 import Generator


class _Pickled(dict[Any, Any]):
    """Stands for any object of the pickle that is not a tensor or a module: runs nothing, keeps nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass


_ALLOWED = {
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch.storage", "_load_from_bytes"): lambda data: torch.load(io.BytesIO(data), weights_only=True),
    ("collections", "OrderedDict"): OrderedDict,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): lambda meta: meta["state"],
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _ALLOWED.get((module, name), _Pickled)


def nvidia_generator(path: Path, cfg: GeneratorConfig) -> Generator:
    """``G_ema`` of a golden pickle in our networks."""
    with path.open("rb") as file:
        theirs = _tensors(_Reader(file).load()["G_ema"])
    g = Generator(cfg)
    own = {"w_mean": theirs["mapping.w_avg"], "w_std": torch.ones(()), "synthesis.const": theirs["synthesis.b4.const"]}
    for name, tensor in theirs.items():
        parts = name.split(".")
        if parts[0] == "mapping" and parts[1] == "embed":
            own[name] = tensor
        elif parts[0] == "mapping" and parts[1].startswith("fc"):
            own[f"mapping.fc.{parts[1][2:]}.{parts[2]}"] = tensor
        elif parts[0] == "synthesis" and parts[2] != "const" and parts[-1] != "resample_filter":
            rest = ".".join(parts[3:]).replace("noise_const", "noise")
            own[f"synthesis.{own_name('.'.join(parts[1:3]))}.{rest}"] = tensor
    g.load_state_dict(own)
    return g.eval().requires_grad_(False)


def own_name(theirs: str) -> str:
    """``b8.conv1`` in our words: ``convs.2``."""
    block, layer = theirs.split(".")
    b = int(block[1:]).bit_length() - 3
    return {"conv0": f"convs.{2 * b - 1}", "conv1": f"convs.{2 * b}", "torgb": f"torgbs.{b}", "skip": f"skips.{b}"}[
        layer
    ]


def _tensors(module: dict[str, Any], prefix: str = "") -> dict[str, Tensor]:
    out = {
        prefix + n: t.detach() for kind in ("_parameters", "_buffers") for n, t in module[kind].items() if t is not None
    }
    for name, child in module["_modules"].items():
        out |= _tensors(child if isinstance(child, dict) else child.__dict__, f"{prefix}{name}.")
    return out
