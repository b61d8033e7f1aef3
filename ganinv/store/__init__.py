"""Parquet collections, directions and weight objects under any fsspec URL. Start at :func:`open_store`."""

from ganinv.store.codes import code_to_table, table_to_code
from ganinv.store.collection import Collection
from ganinv.store.directions import DirectionStore
from ganinv.store.plan import Manifest, PartRecord, Plan, RowError, Status, Unit
from ganinv.store.store import Store, open_store
from ganinv.store.tensors import tensor_array, tensor_numpy

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
