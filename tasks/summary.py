"""What each run did, beside its collection: a row of ``_summary.parquet``, and ``_summary.md`` for people.

There is a row for each run of a collection. Nothing depends on these rows; the parts alone determine what is done. A run that was
killed leaves no row.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ganinv.errors import GaninvError, StoreError, printable
from ganinv.store import Collection, open_store
from ganinv.store.progress import CollectionProgress, progress
from ganinv.store.tensors import parquet_bytes, parquet_table
from ganinv.version import code_version
from tasks.pool import Place, RunStopped, RunSummary, UnitReport
from tasks.pool.progress import format_duration

if TYPE_CHECKING:
    from ganinv.machine import Machine

TABLE, TEXT = "_summary.parquet", "_summary.md"
_SCHEMA = pa.schema(
    [
        ("started", pa.timestamp("ms", "UTC")),
        ("outcome", pa.string()),  # finished, stopped, or the name of the error
        ("seconds", pa.float64()),
        ("images", pa.int64()),  # that were left when it began
        ("ok", pa.int64()),
        ("failed", pa.int64()),
        ("images_per_second", pa.float64()),
        ("units", pa.int64()),
        ("retries", pa.int64()),  # null if the run did not come to its end
        ("replaced_workers", pa.int64()),
        ("worker_seconds", pa.float64()),
        ("cpu_seconds", pa.float64()),
        ("gpu_seconds", pa.float64()),
        ("reasons", pa.map_(pa.string(), pa.int64())),  # code of an error row -> images
        (
            "left_out",
            pa.map_(pa.string(), pa.int64()),
        ),  # what of the data set is not an image of this run, and why -> files
        ("ignored", pa.map_(pa.string(), pa.int64())),  # what of images was damaged and did without -> images
        ("engine", pa.string()),
        ("code_version", pa.string()),
        ("slots", pa.int64()),
        ("cpus_per_slot", pa.float64()),
        ("gpus_per_slot", pa.float64()),
        ("machines", pa.list_(pa.string())),  # on which workers came up: device, library, threads
        ("switches", pa.list_(pa.string())),  # NAME=value of what changes what is computed there
        ("traces", pa.list_(pa.string())),  # operations in which an image's result depends on its batch there
    ]
)

_log = logging.getLogger("ganinv.pool")


@dataclass
class Tally:
    """What a run did so far, from its reports."""

    images: int
    place: Place
    left_out: Mapping[str, int] = field(default_factory=dict)
    ok: int = 0
    failed: int = 0
    units: int = 0
    worker_seconds: float = 0.0
    cpu_seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    summary: RunSummary | None = None
    machines: dict[str, Machine] = field(default_factory=dict)

    def worker(self, machine: Machine) -> bool:
        """Record what a worker computes on. Returns whether it is the first of its kind."""
        new = str(machine) not in self.machines
        self.machines.setdefault(str(machine), machine)
        return new

    def report(self, report: UnitReport) -> None:
        """Count a committed unit."""
        self.units += 1
        self.ok += report.ok
        self.failed += report.failed
        self.worker_seconds += report.seconds
        self.cpu_seconds += report.cpu_seconds
        self.reasons.update(report.reasons)
        self.ignored.update(report.detail.get("ignored", {}))

    def row(self, started: float, seconds: float, outcome: str) -> dict[str, Any]:
        """As a row of the table. ``started``: seconds since 1970."""
        return {
            "started": datetime.fromtimestamp(started, UTC),
            "outcome": outcome,
            "seconds": seconds,
            "images": self.images,
            "ok": self.ok,
            "failed": self.failed,
            "images_per_second": (self.ok + self.failed) / max(seconds, 1e-9),
            "units": self.units,
            "retries": self.summary.retries if self.summary else None,
            "replaced_workers": self.summary.replaced_workers if self.summary else None,
            "worker_seconds": self.worker_seconds,
            "cpu_seconds": self.cpu_seconds,
            "gpu_seconds": self.worker_seconds * self.place.gpus_per_slot,
            "reasons": list(self.reasons.items()),
            "left_out": list(self.left_out.items()),
            "ignored": list(self.ignored.items()),
            "engine": self.place.engine,
            "code_version": code_version(),
            "slots": self.place.slots,
            "cpus_per_slot": self.place.cpus_per_slot,
            "gpus_per_slot": self.place.gpus_per_slot,
            "machines": list(self.machines),
            "switches": sorted({each for machine in self.machines.values() for each in machine.switches}),
            "traces": sorted({each for machine in self.machines.values() for each in machine.traces}),
        }


@contextmanager
def summarised(collection: Collection, tally: Tally) -> Iterator[Tally]:
    """A block that is one run of ``collection``; its row is written when it ends, well or not."""
    started, clock, outcome = time.time(), time.monotonic(), "finished"
    try:
        yield tally
    except Exception as error:
        outcome = "stopped" if isinstance(error, RunStopped) else type(error).__name__
        if not isinstance(error, StoreError):  # with it, the summary could not be written either
            _write(collection, tally.row(started, time.monotonic() - clock, outcome))
        raise
    _write(collection, tally.row(started, time.monotonic() - clock, outcome))


def read_summary(url: str) -> str:
    """The Markdown beside the collection at ``url``; empty if there is none."""
    return (open_store(url).objects.read_if_there(TEXT) or b"").decode()


def ran_on_gpus(collection: Collection) -> bool | None:
    """Whether its workers held GPUs; None if no run has come to an end yet."""
    table = collection.objects.read_if_there(f"{collection.path}/{TABLE}")
    if table is None:
        return None
    spent: list[float] = parquet_table(table, columns=["gpu_seconds"])["gpu_seconds"].to_pylist()
    return max(spent, default=0.0) > 0


def _write(collection: Collection, row: dict[str, Any]) -> None:
    """Add a row. The work itself is done, so errors are only logged."""
    try:
        objects, path = collection.objects, f"{collection.path}/{TABLE}"
        earlier = objects.read_if_there(path)
        tables = [parquet_table(earlier).replace_schema_metadata()] if earlier else []
        table = pa.concat_tables([*tables, pa.Table.from_pylist([row], _SCHEMA)], promote_options="default")
        objects.put(path, parquet_bytes(table, collection.provenance()))
        text = _markdown(progress(collection), collection.provenance(), table.to_pylist())
        objects.put(f"{collection.path}/{TEXT}", text.encode())
    except (GaninvError, pa.ArrowException) as error:
        _log.warning("no summary was written beside %s: %s", collection.url, error)


def _markdown(now: CollectionProgress, origin: dict[str, Any], runs: list[dict[str, Any]]) -> str:
    """Images of the collection, then a line for each run, then why images failed."""
    about = [f"{now.planned:,} images: {now.done:,} done, {now.failed:,} failed, {now.left:,} left ({now.state})."]
    about += [f"Generator {origin['generator_name']}."] if "generator_name" in origin else []
    about += [f"Method {origin['method']}."] if isinstance(origin.get("method"), str) else []
    lines = [f"# {now.collection}", "", " ".join(about), "", _ruled(*_COLUMNS)]
    lines += [_line(*(show(run) for show in _COLUMNS.values())) for run in runs]
    lines += [
        f"\n{_TRACES.format(' or '.join(run['machines']), ', '.join(run['traces']))}" for run in runs if run["traces"]
    ]
    reasons: Counter[str] = Counter()
    for run in runs:
        reasons.update(dict(run["reasons"]))
    if reasons:
        lines += ["", _ruled("failed because", "images"), *(_line(*each) for each in reasons.most_common())]
    for column, head in _BESIDE.items():
        if counts := dict(runs[-1][column] or ()):
            lines += ["", _ruled(*head), *(_line(*each) for each in sorted(counts.items()))]
    return "\n".join(lines) + "\n"


_COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "run": lambda run: f"{run['started']:%Y-%m-%d %H:%M:%S} UTC",
    "outcome": lambda run: run["outcome"],
    "took": lambda run: format_duration(run["seconds"]),
    "done": lambda run: f"{run['ok']:,}",
    "failed": lambda run: f"{run['failed']:,}",
    "images/s": lambda run: f"{run['images_per_second']:.3g}",
    "retries": lambda run: "-" if run["retries"] is None else str(run["retries"]),
    "new workers": lambda run: "-" if run["replaced_workers"] is None else str(run["replaced_workers"]),
    "CPU hours": lambda run: f"{run['cpu_seconds'] / 3600:.2g}",
    "GPU hours": lambda run: f"{run['gpu_seconds'] / 3600:.2g}",
    "workers": lambda run: _workers(run),
    "on": lambda run: "; ".join([*(run["machines"] or ["-"]), *(run["switches"] or [])]),
}

_BESIDE = {
    "left_out": ("no image of this run, because", "files"),
    "ignored": ("damaged, and done without", "images"),
}
"""For the last run: files of the data set that it did not use, and parts of images that it ignored."""

_TRACES = (
    "**On {} an image's result depends in its last digits on its batch** ({}): the promise that it depends neither on its batch "
    "nor its worker does not hold for these runs."
)


def _workers(run: dict[str, Any]) -> str:
    """``ray: 2, each 1 CPU``."""
    each = f"{run['gpus_per_slot']:g} GPU" if run["gpus_per_slot"] else f"{run['cpus_per_slot']:g} CPU"
    return f"{run['engine']}: {run['slots']}, each {each}"


def _ruled(*names: str) -> str:
    return f"{_line(*names)}\n{_line(*('---' for _ in names))}"


def _line(*cells: Any) -> str:
    return f"| {' | '.join(printable(str(cell)) for cell in cells)} |"
