"""The board of a store: for each data set, a row for each method, with means, intervals and ratios."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ganinv.config import load_yaml, validate
from ganinv.errors import StoreError
from ganinv.leaderboard.protocol import LeaderboardProtocol
from ganinv.report.intervals import Estimate, estimate, ratio
from ganinv.stages.method import MethodConfig
from ganinv.store import Collection, Store
from ganinv.store.tensors import parquet_table

BOARD, JUDGED = "board", "leaderboard"
"""Folder of records about the board as a whole; kind of the collections of judged images."""
CONSISTENCY, CHANNELS = "leaderboard-consistency", "leaderboard-channels"
"""Kinds of the collections with further numbers about these images: they are joined to the rows by image."""
REFERENCES = "leaderboard-references"
"""Kind of the collections of edits by references: one for each data set, of the reference method's images."""
HALVES = "leaderboard-halves"
"""Kind of the collections of features of photos, and of edits of one half of the photos."""
BOTH = "@both"
"""Suffix of the names of numbers that use only images in which an edit in W and an edit by a channel both reach the asked
change."""
SUMMARY = "_summary.parquet"
"""The file beside a collection that says what each run did."""
CONTROL = "control-"
"""Prefix of the names of methods that are bad on purpose. They have rows like other methods, but are left out of ranks."""


def collection_name(dataset: str, method: str) -> str:
    """Name of the collection of a method's inversions of a data set, and of the collection of what judges say about them."""
    return f"{dataset}.{method}"


@dataclass(frozen=True)
class Cost:
    """What a method costs for each image.

    Args:
        seconds: processor seconds, from reading to writing. wall: wall-clock seconds of the whole run, divided by its images.
        batch: images processed at once. device: what the run computed on.
        bytes: of the row and its extras.
    """

    seconds: float
    wall: float
    batch: int
    device: str
    bytes: float


@dataclass(frozen=True)
class Row:
    """One method on one data set.

    Args:
        values: name -> [N], by image, in the order of ``ids``.
        judges: named with version and hash. absent: what could not be judged -> why.
        holds: what its codes have beside W+. again: whether it inverts its own edits again.
    """

    dataset: str
    method: str
    ids: tuple[str, ...]
    values: Mapping[str, np.ndarray]
    failed: int
    cost: Cost
    judges: tuple[str, ...]
    absent: Mapping[str, str]
    holds: tuple[str, ...] = ()
    again: bool = True

    @property
    def control(self) -> bool:
        """Whether the method is bad on purpose."""
        return self.method.startswith(CONTROL)


class Board:
    """What was judged in ``store``.

    Raises:
        StoreError: nothing was judged there.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        record = store.objects.read_if_there(f"{BOARD}/protocol.json")
        if record is None:
            raise StoreError(f"{store.url} has no leaderboard: make one with: ganinv leaderboard run")
        self.protocol = validate(LeaderboardProtocol, json.loads(record), "board/protocol.json")
        self._not_run: dict[str, str] = json.loads(store.objects.read_if_there(f"{BOARD}/not-run.json") or b"{}")
        self.identity: dict[str, dict[str, Any]] = json.loads(
            store.objects.read_if_there(f"{BOARD}/identity.json") or b"{}"
        )
        """Data set -> how well the judge of identity tells its people apart, at the generator's size."""

    @cached_property
    def rows(self) -> dict[str, dict[str, Row]]:
        """Data set -> method -> its row; methods with the smallest error come first."""
        out: dict[str, dict[str, Row]] = {}
        for name in self.store.list(JUDGED):
            dataset, _, method = name.partition(".")
            judged = self.store.collection(JUDGED, name)
            if judged.manifest() is not None and (row := _row(self.store, dataset, method, judged)) is not None:
                values = {**row.values, **beside(row.values, self.protocol)}
                out.setdefault(dataset, {})[method] = replace(row, values=values)
        return {
            dataset: dict(sorted(methods.items(), key=lambda each: float(np.nanmean(each[1].values["mse"]))))
            for dataset, methods in sorted(out.items())
        }

    def references(self, dataset: str) -> dict[str, np.ndarray]:
        """Numbers by image of edits by references, by name (``<row>:<attribute>_<what>``); empty if there were none."""
        found = self.store.collection(REFERENCES, collection_name(dataset, self.protocol.reference))
        return _columns(found.read()) if found.manifest() is not None else {}

    def no_references(self, dataset: str) -> str:
        """Why there are none, if that is known."""
        known: dict[str, str] = json.loads(self.store.objects.read_if_there(f"{BOARD}/{REFERENCES}.json") or b"{}")
        return known.get(dataset, "")

    def not_run(self, dataset: str) -> dict[str, str]:
        """Method -> why it has no row for this data set."""
        named = {name.partition(".")[2]: why for name, why in self._not_run.items() if name.startswith(f"{dataset}.")}
        return dict(sorted((method, why) for method, why in named.items() if method not in self.rows.get(dataset, {})))

    @property
    def datasets(self) -> list[str]:
        """Data sets that have a row, or a reason for having none."""
        return sorted({*self.rows, *(name.partition(".")[0] for name in self._not_run)})

    @property
    def judges(self) -> list[str]:
        """All judges that were used."""
        return sorted({judge for methods in self.rows.values() for row in methods.values() for judge in row.judges})

    @property
    def absent(self) -> dict[str, str]:
        """What no row has because a judge is missing -> why."""
        rows = [row for methods in self.rows.values() for row in methods.values()]
        return {what: why for row in rows for what, why in row.absent.items() if all(what in r.absent for r in rows)}

    def mean(self, row: Row, measure: str) -> Estimate:
        """The mean over images."""
        return estimate(row.values[measure], self.protocol.resamples)

    def to_reference(self, row: Row, measure: str = "mse") -> Estimate | None:
        """Ratio of the mean to the reference method's mean on the same images; None if the reference method was not run."""
        reference = self.rows[row.dataset].get(self.protocol.reference)
        if reference is None:
            return None
        place = {image_id: n for n, image_id in enumerate(reference.ids)}
        both = [(n, place[i]) for n, i in enumerate(row.ids) if i in place]
        if not both:
            return None
        mine, theirs = (np.array(each) for each in zip(*both, strict=True))
        return ratio(row.values[measure][mine], reference.values[measure][theirs], self.protocol.resamples)

    def table(self) -> pa.Table:
        """Every number of the board, one row for each: data set, method, measure, mean, low, high, images. Costs are
        included."""
        lines: list[dict[str, Any]] = []
        for dataset, methods in self.rows.items():
            for method, row in methods.items():
                found = {name: self.mean(row, name) for name in row.values}
                if (relative := self.to_reference(row)) is not None:
                    found["mse_to_reference"] = relative
                cost = {"seconds": row.cost.seconds, "wall_seconds": row.cost.wall, "bytes": row.cost.bytes}
                found |= {n: Estimate(value, np.nan, np.nan, len(row.ids)) for n, value in cost.items()}
                lines += [
                    {"dataset": dataset, "method": method, "measure": name}
                    | {"mean": each.mean, "low": each.low, "high": each.high, "images": each.count}
                    for name, each in found.items()
                ]
        table = pa.Table.from_pylist(lines)
        about = {"protocol": self.protocol.name, "digest": self.protocol.digest, "judges": json.dumps(self.judges)}
        return table.replace_schema_metadata(about)


def published() -> Mapping[str, Mapping[str, Any]]:
    """Method -> its error as a ratio to e4e's in the literature (``ratio``), and where that is published (``source``)."""
    found: Mapping[str, Mapping[str, Any]] = load_yaml(Path(__file__).parent / "literature.yaml")["methods"]
    return found


CHEAP = 10
"""A method with at most this many steps for an image inverts edits of its own inversions; more steps would take an hour for a
board."""


def inverts_again(method: MethodConfig) -> bool:
    """Whether a method inverts edits of its own inversions: encoders do, and methods that take at most ``CHEAP`` steps."""
    return all(getattr(stage, "steps", CHEAP + 1) <= CHEAP for stage in method.stages if stage.iterative)


def _row(store: Store, dataset: str, method: str, judged: Collection) -> Row | None:
    """None if no image was judged."""
    table = judged.read()
    if not table.num_rows:
        return None
    latents = store.latents[judged.name]
    ids, values = tuple(table["image_id"].to_pylist()), _columns(table)
    for kind in (CONSISTENCY, CHANNELS):
        if (more := store.collection(kind, judged.name)).manifest() is not None:
            values |= _joined(more.read(), ids)
    says, planned = judged.provenance(), _method(latents)
    holds = latents.read(columns=["extras_holds"])["extras_holds"].to_pylist()
    return Row(
        dataset,
        method,
        ids,
        values,
        latents.errors().num_rows,
        _cost(latents, planned),
        tuple(says.get("judges", ())),
        dict(says.get("absent", {})),
        tuple(sorted({name for each in holds for name in each or ()})),
        inverts_again(planned),
    )


def beside(values: Mapping[str, np.ndarray], protocol: LeaderboardProtocol) -> dict[str, np.ndarray]:
    """Side effects and identity at the asked change, of edits in W and of edits by a channel with the same measure. Only images
    in which both reach the change are used, so that neither is judged on easier ones. The names end in ``BOTH``."""
    out: dict[str, np.ndarray] = {}
    for channel in protocol.channels:
        pair = [channel, *(edit for edit in protocol.edits if edit.measure == channel.measure)]
        if any(f"{edit.direction}_strength" not in values for edit in pair):
            continue
        apart = np.any([np.isnan(values[f"{edit.direction}_strength"]) for edit in pair], axis=0)
        for edit in pair:
            for ours, theirs in (("side", "side"), ("identity", f"identity_{edit.change:g}")):
                kept = np.where(apart, np.nan, values[f"{edit.direction}_{theirs}"])
                out[f"{edit.direction}_{ours}{BOTH}"] = kept
    return out


def _columns(table: pa.Table) -> dict[str, np.ndarray]:
    return {name: table[name].to_numpy().astype(np.float64) for name in table.schema.names if name != "image_id"}


def _joined(table: pa.Table, ids: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns of another table of these images, in the order of ``ids``; NaN for images that the other table lacks."""
    place = {image_id: n for n, image_id in enumerate(table["image_id"].to_pylist())}
    rows = np.array([place.get(image_id, -1) for image_id in ids])
    return {name: np.where(rows < 0, np.nan, column[rows]) for name, column in _columns(table).items() if len(column)}


def _method(latents: Collection) -> MethodConfig:
    return validate(MethodConfig, latents.plan().config["method"], f"{latents.name}/plan.json")


def _cost(latents: Collection, method: MethodConfig) -> Cost:
    runs = parquet_table(latents.objects.read(f"{latents.path}/{SUMMARY}"))
    images = max(sum(runs["ok"].to_pylist()) + sum(runs["failed"].to_pylist()), 1)
    rows = latents.read(columns=["image_id", "extras_bytes"])
    parts = sum(entry.bytes for entry in latents.objects.entries(latents.path) if entry.name.startswith("part-"))
    machines = sorted({machine for each in runs["machines"].to_pylist() for machine in each or ()})
    return Cost(
        seconds=sum(runs["cpu_seconds"].to_pylist()) / images,
        wall=sum(runs["seconds"].to_pylist()) / images,
        batch=min(method.lanes, max(len(unit.ids) for unit in latents.plan().units)),
        device=", ".join(machines),
        bytes=(parts + (pc.sum(rows["extras_bytes"]).as_py() or 0)) / max(rows.num_rows, 1),
    )
