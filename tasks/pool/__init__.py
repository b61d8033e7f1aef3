"""The unit pool: many units of images, a few long-lived workers. ``open_pool`` opens one, ``contract`` says what it does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from ganinv.errors import ConfigError
from tasks.pool.contract import (
    Place,
    Pool,
    PoolError,
    RowError,
    RunStopped,
    RunSummary,
    Unit,
    UnitReport,
    Worker,
    WorkerSpec,
)

__all__ = [
    "Place",
    "Pool",
    "PoolError",
    "RowError",
    "RunStopped",
    "RunSummary",
    "Unit",
    "UnitReport",
    "Worker",
    "WorkerSpec",
    "open_pool",
]


@contextmanager
def open_pool(
    engine: Literal["inline", "ray"] = "inline",
    slots: int | None = None,
    *,
    cpus_per_slot: float = 1,
    gpus_per_slot: float | None = 0,
    deadline_seconds: float = 1800,
    address: str | None = None,
    quiet: bool = False,
    why: str = "",
) -> Iterator[Pool]:
    """A pool; with ``ray``, a connection to a cluster that lasts as long as the block.

    Args:
        engine: ``inline`` computes in this process, one unit after the other, without Ray; a crash or a hanging image then
            affects the caller. ``ray`` computes in separate processes.
        slots: how many workers. None: as many as the cluster's CPUs (or GPUs, when ``gpus_per_slot`` is set) hold.
            With one slot, units are computed in their order.
        gpus_per_slot: may be a fraction: four slots of 0.25 share a device. None: 1 where the cluster has any. Inline, 0
            works on the CPU, whatever there is.
        deadline_seconds: how long one try of one unit may take before its worker is replaced (``ray`` only). After a
            network partition calls hang without an error, so there always is a deadline.
        address: of a Ray cluster; None takes ``RAY_ADDRESS``, and without it starts Ray on this machine, loopback only.
        quiet: no progress line.
        why: the reason for this engine, if it was chosen automatically; shown in the first line.
    """
    negative = cpus_per_slot < 0 or (gpus_per_slot or 0) < 0
    if deadline_seconds <= 0 or negative or (slots is not None and slots < 1):
        raise ConfigError(
            "a pool needs slots >= 1, cpus_per_slot >= 0, gpus_per_slot >= 0 and deadline_seconds > 0, got "
            f"slots={slots}, cpus_per_slot={cpus_per_slot}, gpus_per_slot={gpus_per_slot}, "
            f"deadline_seconds={deadline_seconds}"
        )
    if engine == "inline":
        from tasks.pool.inline import InlinePool

        yield InlinePool(gpus_per_slot or 0, quiet=quiet, why=why)
    elif engine == "ray":
        # Ray takes a second to import, and its switches act at import: only who asks for Ray pays for it.
        from tasks.pool.ray_local import connected

        with connected(address):
            from tasks.pool.ray_engine import RayPool

            pool = RayPool(slots, cpus_per_slot, gpus_per_slot, deadline_seconds, quiet=quiet)
            try:
                yield pool
            finally:
                pool.release()
    else:
        raise ConfigError(f"unknown engine {engine!r}; there are: inline, ray")
