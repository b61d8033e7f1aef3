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
    from ganinv.store.codes import code_to_table, records_to_table, table_to_code
    from ganinv.store.record import RecordConfig

__all__ = [
    "Collection",
    "DirectionStore",
    "Manifest",
    "PartRecord",
    "Plan",
    "RecordConfig",
    "RowError",
    "Status",
    "Store",
    "Unit",
    "code_to_table",
    "open_store",
    "records_to_table",
    "table_to_code",
    "tensor_array",
    "tensor_numpy",
]


_HEAVY = {
    "code_to_table": "ganinv.store.codes",
    "records_to_table": "ganinv.store.codes",
    "table_to_code": "ganinv.store.codes",
    "RecordConfig": "ganinv.store.record",
}


def __getattr__(name: str) -> Any:
    # Codes need torch, which takes seconds to import; listing a store does not.
    home = _HEAVY.get(name)
    if home is not None:
        return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'ganinv.store' has no attribute {name!r}")
