"""Training curves, read from a ``training`` collection: one row per step, one column per loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ganinv.report.inversions import columns_of, floats
from ganinv.store import Collection

MOST_CURVES = 12
_NO_LOSS = ("step", "stage", "image_id")


@dataclass(frozen=True)
class Training:
    """Steps [N], curve name -> values [N] (NaN if a step has none), and the steps at which a new stage began."""

    steps: np.ndarray
    curves: dict[str, np.ndarray]
    stages: tuple[float, ...]


def read_training(collection: Collection) -> Training | None:
    """The curves of a training run by ascending step; None if there are none."""
    if not columns_of(collection):
        return None
    table = collection.read()
    numeric = [
        field.name for field in table.schema if pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
    ]
    steps = floats(table, "step") if "step" in numeric else np.arange(1, table.num_rows + 1, dtype=np.float64)
    order = np.argsort(steps, kind="stable")
    curves = {name: floats(table, name)[order] for name in numeric if name not in _NO_LOSS}
    kept = [name for name, values in curves.items() if np.isfinite(values).sum() > 1][:MOST_CURVES]
    if not kept:
        return None
    stages: tuple[float, ...] = ()
    if "stage" in numeric:
        stage = floats(table, "stage")[order]
        stages = tuple(float(s) for s in steps[order][1:][np.diff(stage) > 0])
    return Training(steps[order], {name: curves[name] for name in kept}, stages)
