"""The unit pool: many units of images, a few long-lived workers, and a rule for every way in which work can fail.

A step driver says how a worker is built (:class:`WorkerSpec`) and which units are left; the pool hands them out::

    with open_pool("ray", slots=None, gpus_per_slot=0.5, deadline_seconds=900) as pool:
        summary = pool.run(WorkerSpec(InvertWorker, {"job": job}), units, on_report=log_unit, label="invert")

Only ids, counts and messages pass through the pool. Pixels are read and results are written by the worker.

What happens when something goes wrong (the rules are in ``tasks.pool.ledger``):

===============================================  ====================================================================
what happened                                    what the pool does
===============================================  ====================================================================
``process`` returns a :class:`RowError`          the image becomes an error row, the others are committed
``process`` raises                               not tried again as it was: halves are tried until the images that raise
                                                 are found; these become error rows, the rest is committed
out of memory                                    the unit is processed in twice as many pieces, down to single images
the worker's process dies, or the deadline       a new worker after a growing pause, the unit again; from the third
passes                                           time on the images to blame are searched for as above
the node is lost or preempted, an object of      the same, but it is never an image's fault (twenty times in a row it
Ray's is lost                                    would have to be)
the worker does not answer                       it is asked again with growing pauses, then replaced
storage times out, throttles (503), breaks off   the call again with growing pauses (``ganinv.store.retrying``), then the
                                                 unit again, ten times with growing pauses, then the run stops
``commit`` raises, or the store cannot be used   the unit again, four times with growing pauses, then the run stops
ConfigError, WeightsRefused, GeneratorMismatch,  the run stops with this error: it would come for every unit
RunConflict
the cluster's head does not answer for 30 s      the run stops: no cluster lives without it, and Ray would end the driver
every image of the first three units raises      the run stops, nothing of it was written: it is not the images
===============================================  ====================================================================

Images that failed are not tried again by a later run, unless it asks for that (``Engine.retry_failed``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ganinv.errors import GaninvError
from ganinv.store import RowError, Unit

if TYPE_CHECKING:
    from ganinv.machine import Machine


class PoolError(GaninvError):
    """The units cannot be computed: no worker starts, workers keep dying, or every image fails."""


class RunStopped(GaninvError):
    """The run was asked to stop. Committed units are kept; the same run resumes there."""


class Worker(Protocol):
    """Computes units. Built once per slot, so it may hold generators and encoders; used by one thread.

    A unit may be computed more than once (after a retry, or if a disconnected node finished it anyway), so both methods must
    return equal results when they are repeated: seeds are derived from image ids.
    """

    def process(self, ids: Sequence[str]) -> list[Any]:
        """Compute some images of one unit; write nothing that counts as done.

        Returns:
            Rows in whatever form :meth:`commit` understands, plus a :class:`RowError` for each image that cannot be
            done. The rows never leave the process. Lists of several calls are joined.
        """
        ...

    def commit(self, unit: Unit, rows: list[Any], failures: Sequence[RowError]) -> Mapping[str, Any]:
        """Write the unit's part. Every id of the unit is in ``rows`` or in ``failures``; ``rows`` may be empty.

        Returns:
            What the report should carry besides the counts: a small JSON-able mapping, may be empty.
        """
        ...


@dataclass(frozen=True)
class WorkerSpec:
    """How to build a worker in another process: ``factory(**kwargs)``. Both are pickled, so no tensors in kwargs."""

    factory: Callable[..., Worker]
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Worker:
        return self.factory(**self.kwargs)


@dataclass(frozen=True)
class UnitReport:
    """The results of a committed unit. ``seconds`` is the time of its last, successful attempt, ``cpu_seconds`` that of all its
    threads; ``reasons`` counts the failed images by the code of their error."""

    index: int
    ok: int
    failed: int
    seconds: float
    detail: Mapping[str, Any] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)
    cpu_seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class RunSummary:
    """The results of a run: units and images, wall-clock seconds, failed attempts, replaced workers."""

    units: int
    ok: int
    failed: int
    seconds: float
    retries: int = 0
    replaced_workers: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Place:
    """What a pool computes on, as far as it is known before the first worker is up.

    Args:
        engine: ``inline`` or ``ray``.
        slots: workers, of ``cpus_per_slot`` and ``gpus_per_slot`` each.
        threads: of each; of a process that uses its own number, None.
        device: name of the GPU, or of the processor; of a cluster that does not tell it, ``CPU`` or ``GPU``.
        why: the reason for this engine, if it was chosen automatically.
    """

    engine: str
    slots: int
    cpus_per_slot: float
    gpus_per_slot: float
    threads: int | None
    device: str
    why: str = ""

    def __str__(self) -> str:
        """``ray, 2 workers, each 1 CPU (AMD EPYC), 1 thread``."""
        count = f"{self.slots} worker{'s' * (self.slots != 1)}"
        if self.gpus_per_slot:
            what = f"{self.gpus_per_slot:g} GPU ({self.device})"
        else:
            what = f"{self.cpus_per_slot:g} CPU ({self.device})"
        threads = "" if self.threads is None else f", {self.threads} thread{'s' * (self.threads != 1)}"
        engine = f"{self.engine} ({self.why})" if self.why else self.engine
        return f"{engine}, {count}{', each' if self.slots != 1 else ','} {what}{threads}"

    def as_dict(self) -> dict[str, Any]:
        """Without ``why``, which is shown when the run begins and does not describe the machine."""
        return {name: value for name, value in asdict(self).items() if name != "why"}


class Pool(Protocol):
    """An engine that runs units. ``place``: on what."""

    place: Place

    def release(self) -> None:
        """End workers that were kept for the next run, to free their resources."""
        ...

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
        """Work on every unit once; returns when all are committed.

        Args:
            on_report: called in this process for each committed unit, in the order of completion.
            on_worker: called in this process for each worker that has started, with what it computes on; not for workers
                that compute without torch.
            should_stop: called repeatedly; when it returns True, workers are ended. Inline, called between two units.
            label: names the work in the progress line. what: the noun that the line counts.

        Raises:
            RunStopped: ``should_stop`` said so; committed units stay.
            PoolError: the pool gave up; committed units stay.
            GaninvError: what a worker raised, when it concerns the whole run.
        """
        ...
