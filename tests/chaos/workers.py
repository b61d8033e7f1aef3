"""Workers that read and write where the faults are. In a module of their own, since other processes import them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ganinv.data import open_dataset
from ganinv.store import Collection, RowError, Unit, open_store


class MeanWorker:
    """The mean of each image of a data set, into a collection; both on S3."""

    def __init__(self, root: str, options: Mapping[str, Any]) -> None:
        self.dataset = open_dataset(f"{root}/in", **options)
        self.collection = open_store(f"{root}/out", **options).latents["means"]

    def process(self, ids: Sequence[str]) -> list[Any]:
        loaded = self.dataset.load(ids, 16)
        means = loaded.images.mean((1, 2, 3)).tolist()
        return [*loaded.errors, *zip(loaded.ids, means, strict=True)]

    def commit(self, unit: Unit, rows: list[Any], failures: Sequence[RowError]) -> Mapping[str, Any]:
        table = pa.table({"image_id": pa.array([r[0] for r in rows], pa.string()), "mean": [r[1] for r in rows]})
        self.collection.write_part(unit.index, table, failures, {row[0]: 0.0 for row in rows})
        return {}


class SlowWorker:
    """A row for each id, a while later."""

    def __init__(self, collection: Collection, seconds: float) -> None:
        self.collection, self.seconds = collection, seconds

    def process(self, ids: Sequence[str]) -> list[Any]:
        time.sleep(self.seconds)
        return list(ids)

    def commit(self, unit: Unit, rows: list[Any], failures: Sequence[RowError]) -> Mapping[str, Any]:
        table = pa.table({"image_id": pa.array(rows, pa.string())})
        self.collection.write_part(unit.index, table, failures, dict.fromkeys(rows, 0.0))
        return {}
