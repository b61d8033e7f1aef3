"""Parquet collections, directions and weight objects under any fsspec URL. Start at :func:`open_store`.

How a ``Code`` becomes a row is ``ganinv.records``; nothing here needs torch.
"""

from __future__ import annotations

from ganinv.store.collection import Collection
from ganinv.store.directions import DirectionStore
from ganinv.store.plan import Manifest, PartRecord, Plan, RowError, Status, Unit
from ganinv.store.store import Store, open_store
from ganinv.store.tensors import as_tensors, tensor_array, tensor_numpy

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
    "as_tensors",
    "open_store",
    "tensor_array",
    "tensor_numpy",
]
