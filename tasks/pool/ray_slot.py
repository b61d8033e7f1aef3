"""``RaySlot``: what the driver knows of one actor: its calls in flight, its clock, and when it may come back."""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray

from ganinv.errors import ConfigError
from ganinv.switches import switches_set
from tasks.pool.contract import WorkerSpec
from tasks.pool.ledger import pause
from tasks.pool.slot import Order, Slot

MANY_PARKINGS = 6  # unanswered calls in a row, about half a minute of pauses
_PASSED_ON = ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION")  # non-AWS object stores need them


@dataclass(frozen=True)
class SlotOptions:
    """What each actor asks for.

    Args:
        resources: ``num_cpus`` and ``num_gpus`` of the actor.
        environment: variables of its process.
        deadline_seconds: for one call, from the moment it is the actor's next.
    """

    resources: dict[str, float]
    environment: dict[str, str]
    deadline_seconds: float

    @classmethod
    def of(cls, slots: int, cpus_per_slot: float, gpus_per_slot: float, deadline_seconds: float) -> SlotOptions:
        """Options for ``slots`` equal actors; a :class:`ConfigError` when no node of the cluster can hold one."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        fits = any(n.get("CPU", 0) >= cpus_per_slot and n.get("GPU", 0) >= gpus_per_slot for n in nodes)
        if not fits and not os.environ.get("RAY_ADDRESS"):  # a cluster elsewhere may be about to grow
            raise ConfigError(
                f"a slot asks for {cpus_per_slot:g} CPUs and {gpus_per_slot:g} GPUs, this machine gives Ray "
                f"{[{k: n.get(k, 0) for k in ('CPU', 'GPU')} for n in nodes]}: lower cpus_per_slot or gpus_per_slot"
            )
        # Results are the same to the bit for the same number of threads, so it must not depend on how many nodes of a
        # cluster happen to be up; a single machine is shared out.
        share = 0 if os.environ.get("RAY_ADDRESS") else max((n.get("CPU", 1) for n in nodes), default=1) / slots
        threads = str(max(1, int(cpus_per_slot), int(share)))
        environment = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        environment |= {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | switches_set()
        if not gpus_per_slot:
            environment["CUDA_VISIBLE_DEVICES"] = ""  # who did not ask for a GPU must not fill one that others share
        return cls({"num_cpus": cpus_per_slot, "num_gpus": gpus_per_slot}, environment, deadline_seconds)


@dataclass(frozen=True)
class Call:
    """A call in flight. ``order`` is None for building the worker, which also tells whether an actor answers again."""

    ref: Any
    order: Order | None


def new_actor(options: SlotOptions) -> Any:
    """An actor without a worker; its process is on its way when this returns."""
    return (
        ray.remote(Slot)
        .options(
            max_restarts=0, max_task_retries=0, runtime_env={"env_vars": options.environment}, **options.resources
        )
        .remote()
    )  # fmt: skip


class RaySlot:
    """One place for an actor; actors come and go, the place stays.

    The driver replaces dead actors itself (``max_restarts=0``) instead of letting Ray do it: Ray's restarts and retries
    are spent within a second while a dead node still counts as alive, and hide how often a unit was tried.
    """

    def __init__(self, spec: WorkerSpec, options: SlotOptions, run: str, actor: Any = None) -> None:
        """``run``: whose workers these are; ``actor``: one that stayed from the run before."""
        self.options = options
        self.calls: deque[Call] = deque()
        self.ready = False  # the worker is built and takes orders
        self._spec, self._run = spec, run
        self._actor: Any = actor
        self._resting_until = 0.0
        self._parked = 0  # times in a row without an answer
        self._clock = 0.0  # when the first call became the first

    def wake(self, now: float) -> None:
        """Start an actor if there is none, or ask a parked one whether it answers, when the pause is over."""
        if self.calls or self.ready or now < self._resting_until:
            return
        if self._actor is None:
            self._actor = new_actor(self.options)
        self.calls.append(Call(self._actor.build.remote(self._spec, self._run), None))
        self._clock = now

    def send(self, order: Order, now: float) -> None:
        if not self.calls:
            self._clock = now
        self.calls.append(Call(self._actor.run.remote(order), order))

    def answered(self, now: float) -> Call:
        """Remove the first call; the clock of the next one starts."""
        self._clock = now
        self._parked = 0
        return self.calls.popleft()

    def overdue(self, now: float) -> bool:
        """The running unit has passed its deadline. Building does not count: it may wait for the cluster to grow."""
        return self.ready and bool(self.calls) and now - self._clock > self.options.deadline_seconds

    def drop_calls(self) -> list[Order | None]:
        """Forget all calls; their orders, first to last."""
        orders = [call.order for call in self.calls]
        self.calls.clear()
        self.ready = False
        return orders

    def park(self, now: float) -> bool:
        """No orders until the actor answers; False when it was asked often enough."""
        self._parked += 1
        self._resting_until = now + pause(self._parked)
        return self._parked < MANY_PARKINGS

    def leave(self) -> Any:
        """The actor, when it is well and has nothing to do; it is not this place's any more."""
        if not self.ready or self.calls:
            return None
        actor, self._actor, self.ready = self._actor, None, False
        return actor

    def kill(self, rest_until: float = 0.0) -> None:
        """End the actor, whatever it does; a new one starts after ``rest_until``."""
        if self._actor is not None:
            with suppress(Exception):  # dead already, or Ray is gone itself
                ray.kill(self._actor, no_restart=True)
        self._actor = None
        self.ready = False
        self._parked = 0
        self._resting_until = rest_until
