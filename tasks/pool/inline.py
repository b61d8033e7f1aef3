"""``InlinePool``: units one after the other in this process. No Ray; for laptops, one GPU, notebooks and tests."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from ganinv.store import Unit
from tasks.pool.contract import Place, PoolError, RunStopped, RunSummary, UnitReport, WorkerSpec
from tasks.pool.ledger import Ledger, stop_if_fatal
from tasks.pool.progress import ProgressLine
from tasks.pool.slot import Slot

if TYPE_CHECKING:
    from ganinv.machine import Machine


class InlinePool:
    """The same rules for errors as the Ray engine, without a process to lose and so without a deadline.

    Args:
        gpus: 0 works on the CPU, whatever this process sees.
        why: the reason for this engine, if it was chosen automatically.
    """

    def __init__(self, gpus: float = 0, *, quiet: bool = False, why: str = "") -> None:
        self._quiet = quiet
        self.place = replace(_here(gpus), why=why)

    def run(
        self,
        spec: WorkerSpec,
        units: Sequence[Unit],
        *,
        on_report: Callable[[UnitReport], None] | None = None,
        on_worker: Callable[[Machine], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        label: str = "images",
        what: str = "images",
    ) -> RunSummary:
        started = time.monotonic()
        ledger = Ledger(units, in_order=True)
        if not units:
            return ledger.summary(0.0)
        images = sum(len(unit.ids) for unit in units)
        with self._device(), ProgressLine(label, images, str(self.place), what=what, quiet=self._quiet) as progress:
            slot = Slot()
            built = slot.build(spec)
            if built.kind != "built":
                stop_if_fatal(built)
                raise built.exception() or PoolError(f"the worker cannot be built: {built.message}")
            if on_worker is not None and built.machine is not None:
                on_worker(built.machine)
            while not ledger.finished:
                if should_stop is not None and should_stop():
                    raise RunStopped(f"stopped: {progress.line()}. What is done is kept; run again to continue")
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

    def release(self) -> None:
        """Does nothing: no workers are kept between runs."""

    def _device(self) -> AbstractContextManager[None]:
        if "torch" not in sys.modules:  # a worker without it has no device either
            return nullcontext()
        from tasks.device import on_cpu

        return on_cpu(not self.place.gpus_per_slot)


def _here(gpus: float) -> Place:
    torch = sys.modules.get("torch")
    if torch is None:
        return Place("inline", 1, 1, gpus, None, "GPU" if gpus else "CPU")
    from ganinv.machine import processor

    device = torch.cuda.get_device_name() if gpus and torch.cuda.is_available() else processor()
    return Place("inline", 1, 1, gpus, torch.get_num_threads(), device)
