"""``InlinePool``: units one after the other in this process. No Ray; for laptops, one GPU, notebooks and tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ganinv.store import Unit
from tasks.pool.contract import PoolError, RunStopped, RunSummary, UnitReport, WorkerSpec
from tasks.pool.ledger import Ledger, stop_if_fatal
from tasks.pool.progress import Progress
from tasks.pool.slot import Slot


class InlinePool:
    """The same rules for errors as the Ray engine, without a process to lose and so without a deadline."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet

    def run(
        self,
        spec: WorkerSpec,
        units: Sequence[Unit],
        *,
        on_report: Callable[[UnitReport], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        label: str = "images",
    ) -> RunSummary:
        started = time.monotonic()
        ledger = Ledger(units, in_order=True)
        if not units:
            return ledger.summary(0.0)
        with Progress(label, sum(len(unit.ids) for unit in units), quiet=self._quiet) as progress:
            slot = Slot(spec)
            built = slot.build()
            if built.kind != "built":
                stop_if_fatal(built)
                raise built.exception() or PoolError(f"the worker cannot be built: {built.message}")
            while not ledger.finished:
                if should_stop is not None and should_stop():
                    raise RunStopped(f"stopped: {progress.line()}. What is done is kept; run again to go on")
                order = ledger.take(time.monotonic())
                if order is None:  # the only unit left pauses
                    time.sleep(0.05)
                    continue
                report = ledger.record(order, slot.run(order), time.monotonic())
                if report is not None:
                    progress.add(report.ok, report.failed)
                    if on_report is not None:
                        on_report(report)
        return ledger.summary(time.monotonic() - started)
