"""Recorded outputs of published encoders (shared/golden/encoders): how they are opened and compared.

Tolerances are those of the golden data's README: 1e-3, and 3e-3 for each further stage or step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ganinv.generators.stylegan2 import Generator
from ganinv.methods.published.checkpoints import EncoderCheckpoint, open_encoder_checkpoint
from ganinv.methods.rows import RowEncoder
from ganinv.methods.w import WEncoder
from tests.closed_form import closed_form_checkpoint

FIRST: dict[str, Any] = {"atol": 1e-3, "rtol": 1e-3}
FURTHER: dict[str, Any] = {"atol": 3e-3, "rtol": 1e-3}
Arrays = dict[str, np.ndarray]


def opened(folder: Path, case: str) -> tuple[EncoderCheckpoint, Arrays]:
    checkpoint = open_encoder_checkpoint(closed_form_checkpoint(folder / f"{case}.json"))
    return checkpoint, dict(np.load(folder / f"{case}.npz", allow_pickle=False))


def close(found: Tensor, arrays: Arrays, name: str, tolerance: dict[str, Any] = FIRST) -> None:
    torch.testing.assert_close(found, torch.from_numpy(arrays[name]), **tolerance)


def stats(x: Tensor) -> Tensor:
    """[3], float64: mean, standard deviation and largest magnitude."""
    return torch.stack([x.mean(), x.std(), x.abs().max()]).double()


def generator_of(checkpoint: EncoderCheckpoint) -> Generator:
    assert checkpoint.generator is not None
    return checkpoint.generator


@contextlib.contextmanager
def features_checked(trunk: Any, arrays: Arrays) -> Iterator[None]:
    """Compare what the trunk's parts give with the recorded ``feat.*``, on the first call."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: Any, out: Tensor) -> None:
            seen.setdefault(name, out[0])

        return hook

    units: nn.ModuleList = trunk.units if hasattr(trunk, "units") else trunk.blocks
    names = {name.removesuffix(".sample") for name in arrays if name.startswith("feat.") and name.endswith(".sample")}
    handles = []
    for name in names:
        module = trunk.stem if name == "feat.stem" else units[int(name.rsplit(".", 1)[1])]
        handles.append(module.register_forward_hook(keep(name)))
    yield
    for handle in handles:
        handle.remove()
    assert seen.keys() == names
    assert len(names) == 5
    for name, x in seen.items():
        step = [n // 8 for n in x.shape]
        close(x[:: step[0], :: step[1], :: step[2]][:8, :8, :8].contiguous(), arrays, f"{name}.sample")
        close(stats(x), arrays, f"{name}.stats")


def trunk_of(encoder: object) -> Any:
    if isinstance(encoder, WEncoder):
        return encoder.trunk
    assert isinstance(encoder, RowEncoder)
    return encoder.backbone.trunk
