"""``Engine``: where and how units run."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import Field

from ganinv.config import StrictModel


class Engine(StrictModel):
    """Where and how units run.

    Args:
        kind: ``ray`` computes in separate processes: on the cluster that RAY_ADDRESS names, or on this machine (loopback only).
            ``inline`` computes in this process, one unit after the other. ``auto`` is ``ray``, unless this machine has only one
            core and no cluster is named, or the work would be done before Ray and its workers have started.
        slots: number of workers; by default as many as fit.
        cpus_per_slot: CPU cores per worker.
        gpus_per_slot: GPUs per worker; a fraction shares a device. By default 1 if Ray (inline: PyTorch) sees a GPU when the run
            begins and the step can use one, else 0. Set it explicitly on a cluster that starts GPU nodes on demand.
        deadline_seconds: time limit for one attempt at one unit, after which its worker is replaced (``ray`` only).
        quiet: no progress line.
        retry_failed: also retry images that failed in an earlier run.
    """

    kind: Literal["auto", "ray", "inline"] = "auto"
    slots: int | None = Field(None, ge=1)
    cpus_per_slot: float = Field(1.0, ge=0)
    gpus_per_slot: float | None = Field(None, ge=0)
    deadline_seconds: float = Field(1800.0, gt=0)
    quiet: bool = False
    retry_failed: bool = False

    @property
    def runs(self) -> Literal["ray", "inline"]:
        """The engine that ``kind`` selects on this machine, unless the work is too small for Ray."""
        from tasks.pool.ray_local import cores

        if self.kind == "auto":
            return "ray" if os.environ.get("RAY_ADDRESS") or cores() > 1 else "inline"
        return self.kind
