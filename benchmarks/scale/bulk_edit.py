"""Editing stored latents in bulk: the arithmetic against the machine's copy bandwidth, and the whole step with its memory.

    python -m benchmarks.scale.bulk_edit --latents 4000 --slots 2

``ratio`` is the time that one core takes to copy the edited latents from memory to memory, warm, over the time that it takes
to make them: 1.0 edits as fast as it copies. Both are CPU time of the best round, so that others on the machine count less.
``rows`` is the same ratio for whole rows of the table, with their other columns. The step on Ray reads Parquet, edits, encodes
and writes it.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ganinv.directions.direction import Direction
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.store import Plan, Store, open_store, tensor_array
from tasks.engine import Engine, open_pools
from tasks.steps.edit import run_edit
from tasks.steps.edit_job import EditJob, EditSpec
from tasks.steps.edit_table import EXTRAS
from tasks.steps.edit_worker import EditWorker

EDITS = (
    EditSpec(name="smile", directions={"smile": 1.0}),
    EditSpec(name="smile-age", directions={"smile": 1.0, "age": -1.0}),
    EditSpec(name="smile-rows", directions={"smile(0-3)": 1.0}),
    EditSpec(name="smile-same-age", directions={"smile": 1.0}, conditions=("age",)),
)
UNIT = 256


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latents", type=int, default=4000, help="rows of the whole step; memory also at half of them")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args()
    torch.set_num_threads(1)
    g = open_generator()
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder)
        for name, seed in (("smile", 0), ("age", 1)):
            vector = np.random.default_rng(seed).normal(size=g.w_dim)
            store.directions.put(Direction(name, vector, "w", g.name, g.fingerprint, "benchmark"))
        arithmetic(store, g, args.rounds)
        titles = ("latents", "edits", "slots", "s", "edits/s", "MB/s", "MiB")
        print(f"\n{'whole step, Ray':24s}" + "".join(f"{title:>9s}" for title in titles))
        for count in (args.latents // 2, args.latents):
            whole(store, g, count, args.slots)


def arithmetic(store: Store, g: Generator, rounds: int) -> None:
    """One core, latents in memory, nothing read or written."""
    count = 1024
    fill(store, g, "small", count)
    print(f"{'one core':24s}{'W+ rows/s':>12s}{'GB/s':>8s}{'copy':>8s}{'ratio':>8s}{'rows':>8s}")
    for specs in (*((spec,) for spec in EDITS), EDITS):
        name = "all-four" if len(specs) > 1 else specs[0].name
        job = EditJob(store=store.url, latents="small", edits=specs, name=name)
        with open_pools(Engine(kind="inline", quiet=True)) as pools:
            run_edit(job, pools)  # a worker reads the versions of directions from its plan
        worker = EditWorker(job)
        table = worker.latents.read(worker.reads)
        code, w = worker.code_of(table, False), np.ones((count, job.rows_each, g.num_ws, g.w_dim), np.float32)
        target, kept = np.ones_like(w), [table]
        functions = (
            partial(np.copyto, target, w),
            partial(worker.edit_all, code, torch.from_numpy(w)),
            partial(_rows, worker, table, kept),
        )
        copy, edit, rows = alternate(functions, rounds)
        speeds = (2 * w.nbytes / edit / 1e9, 2 * w.nbytes / copy / 1e9)
        numbers = "".join(f"{number:8.2f}" for number in (*speeds, copy / edit, copy / rows))
        print(f"{name:24s}{count * job.rows_each / edit:12,.0f}{numbers}", flush=True)


def _rows(worker: EditWorker, table: pa.Table, kept: list[pa.Table]) -> None:
    kept[:] = [
        worker.edited(table, False, worker.columns)
    ]  # as a unit is written, the memory of the one before is free


def alternate(functions: tuple[Callable[[], Any], ...], rounds: int) -> list[float]:
    """The least CPU seconds of each, taken in turns."""
    best = [float("inf")] * len(functions)
    for _ in range(rounds + 1):  # the first round warms up and seldom is the best
        for k, function in enumerate(functions):
            started = time.process_time()
            function()
            best[k] = min(best[k], time.process_time() - started)
    return best


def whole(store: Store, g: Generator, count: int, slots: int) -> None:
    """``run_edit`` on Ray, from Parquet to Parquet."""
    fill(store, g, f"latents-{count}", count)
    job = EditJob(store=store.url, latents=f"latents-{count}", edits=EDITS, name=f"whole-{count}")
    with open_pools(Engine(kind="ray", slots=slots, quiet=True)) as pools, Memory() as memory:
        result = run_edit(job, pools)
    rows = int(result["rows"])
    size, seconds = rows * g.num_ws * g.w_dim * 4 / 1e6, float(result["seconds"])
    numbers = (
        f"{count:9,d}{rows:9,d}{slots:9d}{seconds:9.1f}{rows / seconds:9,.0f}{size / seconds:9.0f}{memory.most:9.0f}"
    )
    print(f"{'':24s}" + numbers)
    store.edits[job.name].remove()


class Memory:
    """The most resident memory, in MiB, that any worker had, looked at twice a second."""

    def __enter__(self) -> Memory:
        self.most, self._stop = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            for status in Path("/proc").glob("[0-9]*/status"):
                try:
                    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
                    if b"Slot" in (status.parent / "cmdline").read_bytes():  # a Ray actor is named after its class
                        self.most = max(self.most, int(lines["VmRSS"].split()[0]) / 2**10)
                except (OSError, KeyError):
                    continue


def fill(store: Store, g: Generator, name: str, count: int) -> None:
    """Made-up W+ latents."""
    collection = store.latents[name]
    origin = {"generator_name": g.name, "generator_fingerprint": g.fingerprint, "method": "benchmark"}
    plan = collection.start(Plan.of("invert", {"name": name}, origin, [f"{k:08d}" for k in range(count)], UNIT))
    rng = np.random.default_rng(0)
    for unit in plan.units:
        w = rng.normal(size=(len(unit.ids), g.num_ws, g.w_dim)).astype(np.float32)
        columns = {"image_id": pa.array(unit.ids), "w": tensor_array(w, ["layer", "channel"])}
        columns |= {key: pa.nulls(len(w), kind) for key, kind in EXTRAS.items()}
        collection.write_part(unit.index, pa.table(columns), [], {})
    collection.finish()


if __name__ == "__main__":
    main()
