"""What every step shares: the engine that runs its units, and the way from a plan to a finished collection."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch

from ganinv.errors import ConfigError
from ganinv.generators.stylegan2 import Generator
from ganinv.store import Collection, Plan
from ganinv.store.conflict import Reread
from ganinv.store.failed import FailedNote
from ganinv.store.succession import News
from ganinv.version import code_version
from tasks.device import default_device
from tasks.jobs.engine import Engine
from tasks.outcome import failures, take_back
from tasks.pool import Pool, RunStopped, Unit, UnitReport, WorkerSpec, early, open_pool
from tasks.summary import Tally, summarised

if TYPE_CHECKING:
    from ganinv.machine import Machine

__all__ = [
    "Engine",
    "Pools",
    "Watch",
    "Watcher",
    "default_device",
    "gpus_expected",
    "open_pools",
    "provenance",
    "run_units",
]

_log = logging.getLogger("ganinv.pool")


class Watcher(Protocol):
    """Receives a report of every committed unit."""

    def report(self, report: UnitReport) -> None: ...


Watch = Callable[[str, int], AbstractContextManager[Watcher]]
"""Called with a collection and its number of images for each step that has work to do."""


class Pools:
    """The pools of an engine, opened when the first step has work to do, and shared by all steps of a chain."""

    def __init__(
        self,
        engine: Engine,
        stack: ExitStack,
        watch: Watch | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self.engine, self.watch, self.should_stop, self._stack = engine, watch, should_stop, stack
        self._pools: dict[tuple[bool, bool], Pool] = {}
        self._inline: dict[bool, Pool] = {}

    def get(self, sequential: bool = False, gpu: bool = True, little: str = "") -> Pool:
        """A pool. With ``sequential`` it has a single slot, which takes units in their order. Without ``gpu`` its workers get no
        GPU, unless the engine sets a number. If another pool was used before, its workers end.

        Args:
            little: why the work is too small for Ray; ``auto`` then computes in this process, unless Ray runs already.
        """
        e = self.engine
        if little and e.kind == "auto" and e.runs == "ray" and not self._pools:
            early.drop()
            if gpu not in self._inline:
                gpus = float(torch.cuda.is_available()) if gpu and e.gpus_per_slot is None else e.gpus_per_slot
                self._inline[gpu] = self._stack.enter_context(
                    open_pool("inline", gpus_per_slot=gpus if gpu else 0, quiet=e.quiet, why=little)
                )
            return self._inline[gpu]
        if not self._pools and e.runs == "ray" and (begun := early.claim()) is not None:
            pool = self._stack.enter_context(begun.opened())
            if begun.fits(e):
                self._pools[False, True] = pool
            else:
                pool.release()
        key = sequential, gpu
        for other, pool in self._pools.items():
            if other != key:
                pool.release()  # what its workers hold may be all that there is
        if key not in self._pools:
            opened = open_pool(
                e.runs,
                1 if sequential else e.slots,
                cpus_per_slot=e.cpus_per_slot,
                gpus_per_slot=self._gpus(gpu),
                deadline_seconds=e.deadline_seconds,
                quiet=e.quiet,
            )
            self._pools[key] = self._stack.enter_context(opened)
        return self._pools[key]

    def release(self) -> None:
        """End all workers kept for the next step, before a step that needs their cores itself."""
        for pool in self._pools.values():
            pool.release()

    def _gpus(self, gpu: bool) -> float | None:
        """Of a slot; None leaves it to what Ray sees."""
        given = self.engine.gpus_per_slot
        if given is not None or not gpu:
            return given or 0.0
        return None if self.engine.runs == "ray" else float(torch.cuda.is_available())

    def close(self) -> None:
        """Close all pools now. A stopped run need not wait until the caller that opened the pools notices."""
        self._pools.clear()
        self._inline.clear()
        self._stack.close()


@contextmanager
def open_pools(
    engine: Engine, watch: Watch | None = None, should_stop: Callable[[], bool] | None = None
) -> Iterator[Pools]:
    """Pools for a block of steps. ``watch`` follows their progress from outside (Prefect's artifacts), ``should_stop``
    ends them with :class:`tasks.pool.RunStopped` (a cancelled flow run)."""
    with ExitStack() as stack:
        yield Pools(engine, stack, watch, should_stop)


def run_units(
    collection: Collection,
    plan: Plan,
    spec: WorkerSpec,
    pools: Pools,
    label: str,
    *,
    what: str = "images",
    gpu: bool = True,
    grows: bool = False,
    reread: Reread | None = None,
    prepare: Callable[[Plan], None] | None = None,
    again: Callable[[Plan], Sequence[str]] | None = None,
    made_of: Sequence[Collection] = (),
    left_out: Mapping[str, int] | None = None,
    little: str = "",
    watcher: Watcher | None = None,
) -> dict[str, Any]:
    """Compute the missing units of a collection, then write its manifest. If nothing is missing, no worker is started.

    Args:
        label: names the work in the progress line. what: the noun that the line counts.
        gpu: whether the workers can use a GPU.
        grows, reread: see ``Collection.start``.
        prepare: called with the plan if units are missing: before the first worker starts, and before other runs can see an
            addition to the plan.
        again: called with the plan before anything is computed. Returns ids of finished units to compute again.
        made_of: the collections this one is derived from. Rows that were replaced there are computed again here.
        left_out: files of the data set that are not part of this run, counted by reason, for the summary.
        little: why the work is too small to start Ray for; empty if it is not (see ``Pools.get``).
        watcher: called for every committed unit, beside those of the pools.

    Returns:
        The collection's kind and name, URL, row and failure counts, units computed and seconds.
    """
    if collection.objects.is_memory:
        if pools.engine.kind == "ray":
            raise ConfigError(
                f"the store {collection.objects.url} is in this process's memory, where no worker of Ray sees it: use a folder, "
                "a bucket, or --engine inline"
            )
        little = little or "the store is in this process's memory"
    if plan.units and not collection.exists():  # record in the plan which machine began it
        plan = plan.model_copy(update={"begun_on": pools.get(gpu=gpu, little=little).place.as_dict()})
    news = News.of(collection, made_of)
    planned_ids = plan.ids if news.ids else []  # may be millions, so keep them only if they are needed
    plan = collection.start(plan, grows=grows, reread=reread, prepare=prepare)
    done = collection.done()
    missing = [unit for unit in plan.units if unit.index not in done]
    changed = [*(again(plan) if again is not None else ()), *news.follow(collection, planned_ids)]
    reopened: list[Unit] = []
    if pools.engine.retry_failed or changed:
        reopened = collection.reopen(failed=pools.engine.retry_failed, also=changed)
        missing = sorted([*missing, *reopened], key=lambda unit: unit.index)
    seconds, ignored = 0.0, dict[str, int]()
    if missing:
        pool = pools.get(gpu=gpu, little=little)
        note = FailedNote(collection, without=[unit.index for unit in reopened])
        tally = Tally(sum(len(unit.ids) for unit in missing), pool.place, left_out or {})
        try:
            if prepare is not None:
                prepare(plan)
            with summarised(collection, tally):
                _run_pool(pool, spec, missing, collection, pools, tally, note, label, what, watcher)
                manifest = collection.finish(plan)
            note.remove()
        except RunStopped:
            raise
        except Exception:
            if not done and not tally.units:
                take_back(collection)
            raise
        seconds = tally.summary.seconds if tally.summary is not None else 0.0
        ignored = dict(tally.ignored)
    else:
        manifest = collection.manifest() or collection.finish(plan)
    news.followed(collection)
    return {
        "collection": f"{collection.kind}/{collection.name}",
        "url": collection.url,
        "rows": manifest.rows,
        "failed": manifest.failed,
        "units": len(plan.units),
        "units_computed": len(missing),
        "seconds": round(seconds, 2),
        **failures(collection, manifest),
        **({"ignored": ignored} if ignored else {}),
    }


def _run_pool(
    pool: Pool,
    spec: WorkerSpec,
    units: Sequence[Unit],
    collection: Collection,
    pools: Pools,
    tally: Tally,
    note: FailedNote,
    label: str,
    what: str,
    watcher: Watcher | None,
) -> None:
    """Run units on a pool and count their reports in ``tally``. A run that is stopped closes all pools."""
    with ExitStack() as stack:
        watchers: list[Watcher] = [tally] if watcher is None else [tally, watcher]
        if pools.watch is not None:
            watchers.append(stack.enter_context(pools.watch(f"{collection.kind}-{collection.name}", tally.images)))

        def on_report(report: UnitReport) -> None:
            for each in watchers:
                each.report(report)
            note.count(report.index, report.failed)

        def on_worker(machine: Machine) -> None:
            if tally.worker(machine):
                _warn(machine, pool.place.gpus_per_slot)

        try:
            tally.summary = pool.run(
                spec,
                units,
                label=label,
                what=what,
                on_report=on_report,
                on_worker=on_worker,
                should_stop=pools.should_stop,
            )
        except RunStopped:
            pools.close()
            raise
    for part, count in tally.ignored.items():
        _log.warning("the %s of %d images is damaged or does not fit their pixels, and was ignored", part, count)


def _warn(machine: Machine, gpus_per_slot: float) -> None:
    """Warn if a worker computes on something other than requested, or without the promised independence of batches."""
    if gpus_per_slot and not machine.gpu:
        _log.warning(
            "a worker was given %g GPU and computes on its processor, %s: PyTorch there sees no CUDA device. Install a CUDA "
            "build of PyTorch on its machine, or ask for no GPU (--gpus-per-slot 0), which fits more workers",
            *(gpus_per_slot, machine.device),
        )
    if machine.traces:
        _log.warning("%s", machine.warning)


def gpus_expected(engine: Engine) -> float:
    """GPUs per slot for a step that can use one, as far as known without a connection to Ray. A cluster elsewhere is joined and
    asked."""
    if engine.gpus_per_slot is not None:
        return engine.gpus_per_slot
    if engine.runs == "ray" and os.environ.get("RAY_ADDRESS"):
        with open_pools(engine.model_copy(update={"quiet": True})) as pools:
            return pools.get().place.gpus_per_slot
    return float(torch.cuda.is_available())


def provenance(generator: Generator | None, /, **more: Any) -> Mapping[str, Any]:
    """The provenance of a collection. ``generator`` is None if no generator was involved."""
    of = {} if generator is None else {"generator_name": generator.name, "generator_fingerprint": generator.fingerprint}
    return {"code_version": code_version(), **of, **more}
