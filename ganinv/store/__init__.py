"""Parquet collections, directions and weight objects under any fsspec URL. Start at :func:`open_store`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ganinv.store.collection import Collection
from ganinv.store.directions import DirectionStore
from ganinv.store.plan import Manifest, PartRecord, Plan, RowError, Status, Unit
from ganinv.store.store import Store, open_store
from ganinv.store.tensors import tensor_array, tensor_numpy

if TYPE_CHECKING:
    from ganinv.store.codes import code_to_table, table_to_code

__all__ = [
    "Collection",
    "DirectionStore",
    "Manifest",
    "PartRecord",
    "Plan",
    "RowError",
    "Status",
    "Store",
    "Unit",
    "code_to_table",
    "open_store",
    "table_to_code",
    "tensor_array",
    "tensor_numpy",
]


def __getattr__(name: str) -> Any:
    # Codes need torch, which takes seconds to import; listing a store does not.
    if name in ("code_to_table", "table_to_code"):
        return getattr(importlib.import_module("ganinv.store.codes"), name)
    raise AttributeError(f"module 'ganinv.store' has no attribute {name!r}")
