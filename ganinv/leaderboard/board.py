"""The board that a store holds: rows of methods by data set, with means, intervals and ratios."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ganinv.config import load_yaml, validate
from ganinv.errors import StoreError
from ganinv.leaderboard.intervals import Estimate, estimate, ratio
from ganinv.leaderboard.protocol import LeaderboardProtocol
from ganinv.store import Collection, Store

BOARD, JUDGED = "board", "leaderboard"
"""Folder of what belongs to the board as a whole; kind of the collections of judged images."""
SUMMARY = "_summary.parquet"
"""What each run did, beside its collection."""


def collection_name(dataset: str, method: str) -> str:
    """Of a method's inversions of a data set, and of what the jury said of them."""
    return f"{dataset}.{method}"


@dataclass(frozen=True)
class Row:
    """One method on one data set.

    Args:
        values: name -> [N], by image, in the order of ``ids``.
        seconds: processor seconds of an image, everything from reading to writing; bytes: of its row and its extras.
    """

    dataset: str
    method: str
    ids: tuple[str, ...]
    values: Mapping[str, np.ndarray]
    failed: int
    seconds: float
    bytes: float
    judges: tuple[str, ...]


class Board:
    """What was judged in ``store``.

    Raises:
        StoreError: nothing was.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        record = store.objects.read_if_there(f"{BOARD}/protocol.json")
        if record is None:
            raise StoreError(f"{store.url} has no leaderboard: make one with: ganinv leaderboard run")
        self.protocol = validate(LeaderboardProtocol, json.loads(record), "board/protocol.json")
        self.not_run: dict[str, str] = json.loads(store.objects.read_if_there(f"{BOARD}/not-run.json") or b"{}")

    @cached_property
    def rows(self) -> dict[str, dict[str, Row]]:
        """Data set -> method -> its row; the methods with the best distance first."""
        out: dict[str, dict[str, Row]] = {}
        for name in self.store.list(JUDGED):
            dataset, _, method = name.partition(".")
            judged = self.store.collection(JUDGED, name)
            if judged.manifest() is not None:
                out.setdefault(dataset, {})[method] = _row(self.store, dataset, method, judged)
        return {
            dataset: dict(sorted(methods.items(), key=lambda each: float(np.nanmean(each[1].values["mse"]))))
            for dataset, methods in sorted(out.items())
        }

    @property
    def measures(self) -> list[str]:
        """Columns that any row has, in the order of the page."""
        asked = [f"{edit.direction}_{what}" for edit in self.protocol.edits for what in ("reached", "kept")]
        known = {name for methods in self.rows.values() for row in methods.values() for name in row.values}
        return [name for name in ("mse", "ssim", "features", "identity", "same", "grain", *asked) if name in known]

    def mean(self, row: Row, measure: str) -> Estimate:
        """Over images."""
        return estimate(row.values[measure], self.protocol.resamples)

    def to_reference(self, row: Row, measure: str = "mse") -> Estimate | None:
        """Ratio of the mean to the reference method's on the same images; None where that was not run."""
        reference = self.rows[row.dataset].get(self.protocol.reference)
        if reference is None:
            return None
        place = {image_id: n for n, image_id in enumerate(reference.ids)}
        both = [(n, place[i]) for n, i in enumerate(row.ids) if i in place]
        if not both:
            return None
        mine, theirs = (np.array(each) for each in zip(*both, strict=True))
        return ratio(row.values[measure][mine], reference.values[measure][theirs], self.protocol.resamples)


def published() -> Mapping[str, Mapping[str, object]]:
    """Method -> its error as a ratio to e4e's in the literature, and where that stands."""
    found: Mapping[str, Mapping[str, object]] = load_yaml(Path(__file__).parent / "literature.yaml")["methods"]
    return found


def _row(store: Store, dataset: str, method: str, judged: Collection) -> Row:
    table = judged.read()
    latents = store.latents[judged.name]
    values = {name: table[name].to_numpy().astype(np.float64) for name in table.schema.names if name != "image_id"}
    runs = pq.read_table(io.BytesIO(latents.objects.read(f"{latents.path}/{SUMMARY}")))
    images = float(np.sum(runs["ok"]) + np.sum(runs["failed"]))
    extras = pc.sum(latents.read(columns=["extras_bytes"])["extras_bytes"]).as_py() or 0
    parts = sum(e.bytes for e in latents.objects.entries(latents.path) if e.name.startswith("part-"))
    return Row(
        dataset,
        method,
        tuple(table["image_id"].to_pylist()),
        values,
        latents.errors().num_rows,
        float(np.sum(runs["cpu_seconds"])) / images,
        (parts + extras) / max(table.num_rows, 1),
        tuple(judged.provenance().get("judges", ())),
    )
