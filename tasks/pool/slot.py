"""``Slot``: the part of the pool that runs in the worker's process. Holds one worker and returns every error as a value."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import pickle
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from ganinv.errors import ConfigError, GeneratorMismatch, RunConflict, StoreError, WeightsRefused
from ganinv.store import RowError, Unit
from ganinv.store.failures import is_transient
from tasks.pool.contract import UnitReport, Worker, WorkerSpec
from tasks.pool.lean import without_pandas

if TYPE_CHECKING:
    from ganinv.machine import Machine

_log = logging.getLogger("ganinv.pool")

FATAL = (ConfigError, WeightsRefused, GeneratorMismatch, RunConflict)
"""Errors that would come for every unit."""

Kind = Literal["built", "done", "checked", "raised", "memory", "store", "unavailable", "fatal", "died", "late", "lost"]


@dataclass(frozen=True)
class Order:
    """One call of a slot.

    Args:
        failures: images that are not computed any more; they become error rows.
        pieces: into how many groups the rest is cut, against a lack of memory.
        check: compute these ids only and commit nothing: the search for images that raise.
    """

    unit: Unit
    failures: tuple[RowError, ...] = ()
    pieces: int = 1
    check: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Outcome:
    """The result of an order (or of building the worker).

    Args:
        kind: ``store`` failed in a way that will last, ``unavailable`` did not answer; ``died`` may be the work's fault,
            ``lost`` is the machine's (its node went away), ``late`` has passed the deadline.
        code, message: of the error, for an error row.
        error: the pickled exception when the run is to stop with it; empty when it cannot be pickled.
        machine: what a worker that was built computes on.
    """

    kind: Kind
    report: UnitReport | None = None
    code: str = ""
    message: str = ""
    error: bytes = b""
    machine: Machine | None = None

    def exception(self) -> BaseException | None:
        """The exception itself, when it could travel."""
        try:
            return (
                pickle.loads(self.error) if self.error else None
            )  # made by our own worker: the cluster's trust boundary
        except Exception:
            return None


class Slot:
    """Builds the worker and carries out orders, one at a time. It may stay when its work is done, and be given other work: what
    its process has imported and opened then is there."""

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._run = ""

    def prepare(self, modules: Sequence[str]) -> None:
        """Import modules of a worker before anybody knows what it will be given."""
        without_pandas()
        for module in modules:
            with suppress(ImportError):  # building the worker reports it
                importlib.import_module(module)

    def build(self, spec: WorkerSpec, run: str = "") -> Outcome:
        """Build the worker, once for each ``run``; later calls only say that it is there. What was built before goes."""
        try:
            if self._worker is None or self._run != run:
                if self._worker is not None:
                    self._worker = None
                    _free_memory()
                self._worker, self._run = spec.build(), run
        except FATAL as error:
            return _outcome("fatal", error)
        except Exception as error:
            return _outcome("unavailable" if is_transient(error) else "raised", error)
        return Outcome("built", machine=_machine())

    def run(self, order: Order) -> Outcome:
        """Carry out one order. ``build`` must have succeeded."""
        assert self._worker is not None
        started, cpu_started = time.perf_counter(), time.process_time()
        failed = {failure.image_id for failure in order.failures}
        ids = order.check if order.check is not None else tuple(i for i in order.unit.ids if i not in failed)
        results: list[Any] = []
        try:
            for piece in cut(ids, order.pieces):
                results += self._worker.process(piece)
        except FATAL as error:
            return _outcome("fatal", error)
        except Exception as error:
            outcome = _outcome(_kind(error), error)
            del error, results
            _free_memory()
            return outcome
        if order.check is not None:
            return Outcome("checked")
        rows = [row for row in results if not isinstance(row, RowError)]
        failures = [*order.failures, *(row for row in results if isinstance(row, RowError))]
        try:
            detail = self._worker.commit(order.unit, rows, failures)
        except FATAL as error:
            return _outcome("fatal", error)
        except Exception as error:  # whatever it is, the images are not to blame
            return _outcome("unavailable" if is_transient(error) else "store", error)
        ok = len(order.unit.ids) - len(failures)
        reasons = Counter(failure.code for failure in failures)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        return Outcome(
            "done", UnitReport(order.unit.index, ok, len(failures), seconds, detail, dict(reasons), cpu_seconds)
        )


def cut(ids: Sequence[str], pieces: int) -> list[tuple[str, ...]]:
    """``ids`` in their order as at most ``pieces`` groups of nearly equal size, none of them empty."""
    pieces = min(pieces, len(ids))
    edges = [len(ids) * i // pieces for i in range(pieces + 1)] if pieces else []
    return [tuple(ids[a:b]) for a, b in pairwise(edges)]


def _outcome(kind: Kind, error: Exception) -> Outcome:
    _log.info("%s in a worker", kind, exc_info=error)  # the whole traceback stays in the worker's log
    code = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(error).__name__).lower()
    where = _last_line_of_ours(error)
    try:
        travelling = pickle.dumps(error)
    except Exception:
        travelling = b""
    return Outcome(kind, code=code, message=f"{type(error).__name__}: {error}"[:2000] + where, error=travelling)


def _last_line_of_ours(error: Exception) -> str:
    """`` (file.py:12)`` of the innermost frame, for a person who reads an error row."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f" ({os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno})" if trace else ""


def _kind(error: Exception) -> Kind:
    """Classify what ``process`` raised: a fault of the machine, the storage or the work."""
    if _is_out_of_memory(error):
        return "memory"
    if is_transient(error):
        return "unavailable"
    return "store" if isinstance(error, StoreError) else "raised"


def _machine() -> Machine | None:
    """What the worker computes on; None if it has no torch, whose import it must not pay for."""
    if "torch" not in sys.modules:
        return None
    from ganinv.machine import Machine
    from tasks.device import default_device

    return Machine.here(default_device())


def _is_out_of_memory(error: Exception) -> bool:
    # torch is asked only when it is there already: a worker without it must not pay for its import.
    torch = sys.modules.get("torch")
    return isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError))


def _free_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
