"""Start Ray before there is work for it: it starts, and its workers import modules, while this process imports and plans.

Importing torch takes two seconds of a core, here and in each worker, Ray's own processes as long, and neither needs the other. A
command that will run on Ray says so first (``begin``); the pools of its steps then take what there is (``claim``). Nothing here
imports torch, or Ray before it is begun.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tasks.jobs.engine import Engine
from tasks.pool.ray_local import cores

if TYPE_CHECKING:
    from tasks.pool.contract import Pool

SPARE_CORES = 4
"""With this many cores or more, a needless start delays nothing, so ``auto`` starts Ray before it knows whether it is needed."""


class Early:
    """A pool on its way, in a thread of its own, which stays until the pool ends: Linux kills what a thread has started when that
    thread is gone, if it was asked to (``PR_SET_PDEATHSIG``), and Ray asks for it."""

    def __init__(self, engine: Engine, modules: Sequence[str]) -> None:
        self.engine, self._modules = engine, modules
        self._pool: Pool | None = None
        self._error: BaseException | None = None
        self._there, self._over = threading.Event(), threading.Event()
        # A daemon, so that a process which leaves without a word is not kept by it.
        self._thread = threading.Thread(target=self._hold, name="ganinv-ray", daemon=True)
        self._thread.start()

    def _hold(self) -> None:
        from tasks.pool import open_pool

        e = self.engine
        try:
            with open_pool(
                "ray", e.slots, cpus_per_slot=e.cpus_per_slot, gpus_per_slot=e.gpus_per_slot,
                deadline_seconds=e.deadline_seconds, quiet=e.quiet,
            ) as pool:  # fmt: skip
                pool.warm(self._modules)  # type: ignore[attr-defined]
                self._pool = pool
                self._there.set()
                self._over.wait()
        except BaseException as error:  # told where it would have been raised
            self._error = error
        finally:
            self._there.set()

    @contextmanager
    def opened(self) -> Iterator[Pool]:
        """The pool, when it is there; it ends with the block. What went wrong is raised here."""
        self._there.wait()
        try:
            if self._pool is None:
                assert self._error is not None
                raise self._error
            yield self._pool
        finally:
            self.end()
        if self._error is not None:
            raise self._error

    def fits(self, engine: Engine) -> bool:
        """Whether its workers are as ``engine`` wants them."""
        of_no_pool = {"kind", "retry_failed"}
        return self.engine.model_dump(exclude=of_no_pool) == engine.model_dump(exclude=of_no_pool)

    def end(self) -> None:
        """End it as soon as it is there."""
        self._over.set()
        self._thread.join()


_early: Early | None = None
_ending: threading.Thread | None = None


def begin(engine: Engine, modules: Sequence[str]) -> bool:
    """Begin what ``engine`` will need of Ray on this machine; whether it was begun. ``auto`` waits for the plan where a start in
    vain would take the cores that the work needs.

    Args:
        modules: that workers will need.
    """
    global _early
    wanted = engine.kind == "ray" or (engine.kind == "auto" and cores() >= SPARE_CORES)
    if not wanted or os.environ.get("RAY_ADDRESS") or _early is not None:
        return False
    _early = Early(engine, modules)
    return True


def claim() -> Early | None:
    """The pool that was begun, if any; the caller has to end it. Waits for a pool that is being ended."""
    global _early, _ending
    if _ending is not None:
        _ending.join()
        _ending = None
    begun, _early = _early, None
    return begun


def drop() -> None:
    """End the pool that was begun, if any, without waiting."""
    global _early, _ending
    begun, _early = _early, None
    if begun is not None:
        _ending = threading.Thread(target=begun.end, name="ganinv-ray-end")
        _ending.start()
