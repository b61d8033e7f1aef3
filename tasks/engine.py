"""What every step shares: which engine runs its units, and the drive from a plan to a finished collection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.metadata import version
from typing import Any, Literal, Protocol

import torch

from ganinv.config import StrictModel
from ganinv.generators.stylegan2 import Generator
from ganinv.store import Collection, Plan
from ganinv.store.conflict import Reread
from tasks.pool import Pool, RunStopped, UnitReport, WorkerSpec, open_pool
from tasks.summary import Tally, summarised


class Engine(StrictModel):
    """Where and how units run. ``ray`` joins the cluster of RAY_ADDRESS, or starts Ray on this machine, loopback only.

    Args:
        retry_failed: also try the images again that failed in an earlier run.
    """

    kind: Literal["inline", "ray"] = "ray"
    slots: int | None = None
    cpus_per_slot: float = 1.0
    gpus_per_slot: float = 0.0
    deadline_seconds: float = 1800.0
    quiet: bool = False
    retry_failed: bool = False


class Watcher(Protocol):
    """Somebody who wants to know of every committed unit."""

    def report(self, report: UnitReport) -> None: ...


Watch = Callable[[str, int], AbstractContextManager[Watcher]]
"""Called with a collection and its number of images for each step that has work to do."""


class Pools:
    """The pool of an engine, opened when the first step has work to do, and shared by all steps of a chain."""

    def __init__(
        self,
        engine: Engine,
        stack: ExitStack,
        watch: Watch | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self.engine, self.watch, self.should_stop, self._stack = engine, watch, should_stop, stack
        self._pools: dict[bool, Pool] = {}

    def get(self, sequential: bool = False) -> Pool:
        """The pool; ``sequential`` gives one with a single slot, which works on units in their order."""
        if sequential not in self._pools:
            e = self.engine
            opened = open_pool(
                e.kind,
                1 if sequential else e.slots,
                cpus_per_slot=e.cpus_per_slot,
                gpus_per_slot=e.gpus_per_slot,
                deadline_seconds=e.deadline_seconds,
                quiet=e.quiet,
            )
            self._pools[sequential] = self._stack.enter_context(opened)
        return self._pools[sequential]

    def close(self) -> None:
        """End the connection now. A run that was stopped need not wait until whoever opened the pools hears of it."""
        self._pools.clear()
        self._stack.close()


@contextmanager
def open_pools(
    engine: Engine, watch: Watch | None = None, should_stop: Callable[[], bool] | None = None
) -> Iterator[Pools]:
    """Pools for a block of steps. ``watch`` follows their progress from outside (Prefect's artifacts), ``should_stop``
    ends them with :class:`tasks.pool.RunStopped` (a cancelled flow run)."""
    with ExitStack() as stack:
        yield Pools(engine, stack, watch, should_stop)


def drive(
    collection: Collection,
    plan: Plan,
    spec: WorkerSpec,
    pools: Pools,
    label: str,
    *,
    sequential: bool = False,
    grows: bool = False,
    reread: Reread | None = None,
    prepare: Callable[[Plan], None] | None = None,
) -> dict[str, Any]:
    """Compute the units that are missing, then write the manifest. Nothing is started when nothing is missing.

    Args:
        grows, reread: of ``Collection.start``.
        prepare: called with the plan when something is missing, before the first worker, and before an addition to the plan
            can be seen by other runs.
    """
    plan = collection.start(plan, grows=grows, reread=reread, prepare=prepare)
    done = collection.done()
    left = [unit for unit in plan.units if unit.index not in done]
    if pools.engine.retry_failed:
        left = sorted([*left, *collection.reopen()], key=lambda unit: unit.index)
    summary: dict[str, Any] = {}
    if left:
        images = sum(len(unit.ids) for unit in left)
        tally = Tally(images, pools.engine.kind, pools.engine.gpus_per_slot)
        with ExitStack() as stack:
            watchers: list[Watcher] = [tally]
            if pools.watch is not None:
                watchers.append(stack.enter_context(pools.watch(f"{collection.kind}-{collection.name}", images)))

            def on_report(report: UnitReport) -> None:
                for watcher in watchers:
                    watcher.report(report)

            if prepare is not None:
                prepare(plan)
            pool = pools.get(sequential)
            stack.enter_context(summarised(collection, tally))
            try:
                tally.summary = pool.run(spec, left, label=label, on_report=on_report, should_stop=pools.should_stop)
            except RunStopped:
                pools.close()
                raise
            summary = tally.summary.as_dict()
            manifest = collection.finish(plan)
    else:
        manifest = collection.manifest() or collection.finish(plan)
    return {
        "collection": f"{collection.kind}/{collection.name}",
        "url": collection.url,
        "rows": manifest.rows,
        "failed": manifest.failed,
        "units": len(plan.units),
        "units_computed": len(left),
        "seconds": round(float(summary.get("seconds", 0.0)), 2),
    }


def default_device() -> str:
    """``cuda`` where this process sees a GPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def provenance(generator: Generator, **more: Any) -> Mapping[str, Any]:
    """What every collection says about its origin."""
    return {
        "code_version": version("ganinv"),
        "generator_name": generator.name,
        "generator_fingerprint": generator.fingerprint,
        **more,
    }
