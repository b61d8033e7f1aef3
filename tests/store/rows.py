"""Small plans and parts to write in tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from ganinv.store import Collection, Plan, tensor_array

IDS = ["b", "a", "e", "d", "c"]


def small_plan(**config: Any) -> Plan:
    return Plan.of("invert", {"method": {"steps": 5, **config}}, {"generator_fingerprint": "f00", "seed": 1}, IDS, 2)


def rows(ids: list[str] | tuple[str, ...]) -> pa.Table:
    """w of an image is its letter's number, everywhere."""
    w = (
        np.stack([np.full((4, 8), float(ord(i[0])), np.float32) for i in ids])
        if ids
        else np.zeros((0, 4, 8), np.float32)
    )
    return pa.table({"image_id": pa.array(ids, pa.string()), "w": tensor_array(w), "mse": pa.array([0.5] * len(ids))})


def write_all(collection: Collection, plan: Plan) -> None:
    for unit in plan.units:
        collection.write_part(unit.index, rows(unit.ids[::-1]), [], dict.fromkeys(unit.ids, 0.1))
