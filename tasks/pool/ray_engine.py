"""``RayPool``: each slot is an actor. The driver watches the actors, replaces those that die, and leaves nothing running."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import ray

from ganinv.store import Unit
from tasks.pool.contract import Place, PoolError, RunStopped, RunSummary, UnitReport, WorkerSpec
from tasks.pool.ledger import Ledger, pause, stop_if_fatal
from tasks.pool.meter import Meter
from tasks.pool.progress import ProgressLine
from tasks.pool.ray_head import ClusterHead
from tasks.pool.ray_slot import RaySlot, SlotOptions, new_actor
from tasks.pool.slot import Order, Outcome

if TYPE_CHECKING:
    from ganinv.machine import Machine

_log = logging.getLogger("ganinv.pool")

POLL_SECONDS = 0.5
START_SECONDS = 600.0  # for the first worker to come up: a cluster may have to grow, weights to be fetched
MANY_FAILED_BUILDS = 3  # in a row
MANY_CRASHES = 10  # in a row, over all slots and without anything that went well: the workers are at fault, not a unit
_LOST = (  # what happens to nodes and their objects; no work is to blame
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.LocalRayletDiedError,
)


class RayPool:
    """See :func:`tasks.pool.contract.open_pool`, which makes one inside a connection."""

    def __init__(
        self,
        slots: int | None,
        cpus_per_slot: float,
        gpus_per_slot: float | None,
        deadline_seconds: float,
        *,
        quiet: bool = False,
        start_seconds: float = START_SECONDS,
    ) -> None:
        if gpus_per_slot is None:
            gpus_per_slot = 1.0 if ray.cluster_resources().get("GPU", 0) >= 1 else 0.0
        self._slots = slots or _slots_that_fit(cpus_per_slot, gpus_per_slot)
        self._options = SlotOptions.of(self._slots, cpus_per_slot, gpus_per_slot, deadline_seconds)
        self._start_seconds = start_seconds
        self._quiet = quiet
        self._idle: list[Any] = []
        """Actors that stayed from the run before, or were made for the one to come."""
        threads = int(self._options.environment["OMP_NUM_THREADS"])
        self.place = Place("ray", self._slots, cpus_per_slot, gpus_per_slot, threads, _device(gpus_per_slot))

    def warm(self, modules: Sequence[str]) -> None:
        """Make all workers now, and let them import what the first run will need."""
        while len(self._idle) < self._slots:
            actor = new_actor(self._options)
            actor.prepare.remote(tuple(modules))
            self._idle.append(actor)

    def release(self) -> None:
        while self._idle:
            with suppress(Exception):  # dead already, or Ray is gone itself
                ray.kill(self._idle.pop(), no_restart=True)

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
        if not units:
            return Ledger(units, in_order=True).summary(0.0)
        slots = min(self._slots, len(units))
        stayed, self._idle = self._idle[:slots], self._idle[slots:]
        run = _Run(spec, units, slots, self._options, self._start_seconds, on_worker, stayed)
        meter = Meter(label, self._options.resources["num_gpus"])
        images = sum(len(unit.ids) for unit in units)
        with ProgressLine(label, images, str(self.place), what=what, quiet=self._quiet) as progress:
            try:
                while not run.ledger.finished:
                    if should_stop is not None and should_stop():
                        raise RunStopped(f"stopped: {progress.line()}. What is done is kept; run again to continue")
                    for report in run.step():
                        meter.report(report)
                        progress.add(report.ok, report.failed)
                        if on_report is not None:
                            on_report(report)
                    meter.queue(run.ledger.waiting, run.ledger.running, run.ledger.retries)
                    progress.tick()
            except BaseException as error:
                if should_stop is not None and should_stop() and not isinstance(error, RunStopped):
                    raise RunStopped(
                        f"stopped: {progress.line()}. What is done is kept; run again to continue"
                    ) from error
                if isinstance(error, SystemError) and error.__cause__ is not None:
                    raise error.__cause__ from None  # of a signal's handler, that ran while Ray's C code returned
                raise
            else:
                self._idle += run.leave()
            finally:
                run.stop()
                meter.close()
        return run.ledger.summary(time.monotonic() - run.started, run.replaced)


class Setbacks:
    """Failures in a row, and the growing pauses after them. A node takes all of its workers with it, and storage that is away
    stops all of them: what happens before the pause is over counts once."""

    def __init__(self) -> None:
        self.count, self._until = 0, 0.0

    def add(self, now: float) -> float:
        """Count one; when its pause is over, by the same clock."""
        if now >= self._until:
            self.count += 1
            self._until = now + pause(self.count)
        return self._until

    def clear(self) -> None:
        self.count = 0


class _Run:
    """One call of :meth:`RayPool.run`."""

    def __init__(
        self,
        spec: WorkerSpec,
        units: Sequence[Unit],
        slots: int,
        options: SlotOptions,
        start_seconds: float,
        on_worker: Callable[[Machine], None] | None = None,
        stayed: Sequence[Any] = (),
    ) -> None:
        self._on_worker = on_worker
        self.ledger = Ledger(units, in_order=slots == 1)
        self.started = self._last_up = time.monotonic()
        self.replaced = 0
        self._crashes, self._failed_builds = Setbacks(), Setbacks()
        self._start_seconds = start_seconds
        name = uuid.uuid4().hex
        actors = [*stayed, *[None] * (slots - len(stayed))]
        self._slots = [RaySlot(spec, options, name, actor) for actor in actors]
        self._head = ClusterHead(ray.get_runtime_context().gcs_address)

    def step(self) -> list[UnitReport]:
        """Start what can be started, wait at most POLL_SECONDS, book what has come."""
        for slot in self._slots:
            slot.wake(time.monotonic())
        # One unit running and one behind it keep a slot busy; all get their first before one gets its second. A single
        # slot gets no second, so that a unit that is tried again still comes before the next one.
        # Towards the end no slot gets a second either: it would wait behind a slow one while others have nothing to do.
        for depth in (1, 2) if len(self._slots) > 1 else (1,):
            if depth == 2 and self.ledger.waiting <= len(self._slots):
                break
            for slot in self._slots:
                if slot.ready and len(slot.calls) < depth and (order := self.ledger.take(time.monotonic())) is not None:
                    slot.send(order, time.monotonic())
        heads = {slot.calls[0].ref: slot for slot in self._slots if slot.calls}
        done: list[ray.ObjectRef] = []
        if heads:
            done, _ = ray.wait(list(heads), timeout=POLL_SECONDS)
        else:
            time.sleep(0.05)  # every slot rests after a crash, or the units that are left pause
        reports = [report for ref in done if (report := self._receive(heads[ref])) is not None]
        for slot in self._slots:
            if slot.overdue(time.monotonic()):
                message = f"not done within the deadline of {slot.options.deadline_seconds:g} s"
                self._lost(slot, Outcome("late", code="deadline", message=message))
        self._check_up()
        return reports

    def leave(self) -> list[Any]:
        """Actors that are well, for the run after this one."""
        return [actor for slot in self._slots if (actor := slot.leave()) is not None]

    def stop(self) -> None:
        """End every actor that is left. Without a head nobody can: they end with their nodes."""
        for slot in self._slots if not self._head.away else ():
            slot.kill()

    def _receive(self, slot: RaySlot) -> UnitReport | None:
        """Take in the result of a slot's first call."""
        try:
            outcome: Outcome = ray.get(slot.calls[0].ref)
        except ray.exceptions.ActorUnavailableError as error:
            # Calls that were only queued get this too, and the actor may be well behind a cut network: no charge.
            _log.warning("a worker does not answer and is asked again: %s", _first_line(error))
            self._put_back(slot.drop_calls())
            if not slot.park(time.monotonic()):
                self._lost(slot, Outcome("died", code="worker_unreachable", message="the worker did not answer again"))
        except ray.exceptions.OutOfMemoryError as error:
            self._lost(slot, Outcome("memory", code="out_of_memory", message=_first_line(error)))
        except ray.exceptions.ActorDiedError as error:
            lost = error.preempted or "node has died" in str(error)
            self._lost(slot, Outcome("lost" if lost else "died", code="worker_died", message=_first_line(error)))
        except _LOST as error:
            self._lost(slot, Outcome("lost", code="node_lost", message=_first_line(error)))
        except ray.exceptions.RayTaskError as error:
            # A slot returns errors as values, so this is not the work: most likely the code here and there differs.
            raise PoolError(f"a worker cannot carry out orders, does it have the same code? {error}") from error
        except ray.exceptions.RayError as error:
            raise PoolError(f"Ray cannot run workers: {error}") from error
        else:
            return self._book(slot, outcome)
        return None

    def _book(self, slot: RaySlot, outcome: Outcome) -> UnitReport | None:
        order = slot.calls[0].order
        if order is None and outcome.kind != "built":
            stop_if_fatal(outcome)
            self._lost(slot, outcome)
            return None
        slot.answered(time.monotonic())
        if order is None:
            slot.ready = True
            self._failed_builds.clear()
            if self._on_worker is not None and outcome.machine is not None:
                self._on_worker(outcome.machine)
            return None
        if outcome.kind in ("done", "checked"):
            self._crashes.clear()
        return self.ledger.record(order, outcome, time.monotonic())

    def _lost(self, slot: RaySlot, outcome: Outcome) -> None:
        """Replace the actor. The first call has to answer for it, what waited behind goes back."""
        calls, now = slot.drop_calls(), time.monotonic()
        self.replaced += 1
        slot.kill(rest_until=self._crashes.add(now))
        if calls and calls[0] is None and outcome.kind == "raised":
            self._failed_builds.add(now)
        if self._crashes.count >= MANY_CRASHES or self._failed_builds.count >= MANY_FAILED_BUILDS:
            raise outcome.exception() or PoolError(
                f"workers failed {self._crashes.count} times in a row, the last time so: {outcome.message}. "
                "Committed units are kept; mend the cause and run again"
            )
        _log.warning("a worker is replaced: %s", outcome.message)
        self._put_back(calls[1:])
        if calls and calls[0] is not None:
            self.ledger.record(calls[0], outcome, time.monotonic())

    def _put_back(self, orders: Sequence[Order | None]) -> None:
        for order in reversed(orders):
            if order is not None:
                self.ledger.put_back(order)

    def _check_up(self) -> None:
        """Give up when the head is gone, or no worker has been up for too long."""
        now = time.monotonic()
        self._head.check(now)
        if any(slot.ready for slot in self._slots):
            self._last_up = now
        elif now - self._last_up > self._start_seconds:
            raise PoolError(
                f"no worker came up within {self._start_seconds:g} s. One asks for {self._slots[0].options.resources}; "
                f"the cluster has {ray.cluster_resources()}, of which {ray.available_resources()} are free"
            )


def _slots_that_fit(cpus_per_slot: float, gpus_per_slot: float) -> int:
    resources = ray.cluster_resources()
    if gpus_per_slot:
        return max(1, int(resources.get("GPU", 0) / gpus_per_slot + 1e-6))
    return max(1, int(resources.get("CPU", 1) / cpus_per_slot + 1e-6)) if cpus_per_slot else 1


def _device(gpus_per_slot: float) -> str:
    """The names of the cluster's GPUs, or of this machine's processor; ``GPU`` and ``CPU`` where nobody tells them."""
    if gpus_per_slot:
        kinds = sorted(key.partition(":")[2] for key in ray.cluster_resources() if key.startswith("accelerator_type:"))
        return " or ".join(kinds) or "GPU"
    if os.environ.get("RAY_ADDRESS"):
        return "CPU"
    from ganinv.machine import processor

    return processor()


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
