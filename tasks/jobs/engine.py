"""``Engine``: where and how units run."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import Field

from ganinv.config import StrictModel


class Engine(StrictModel):
    """Where and how units run.

    Args:
        kind: ``ray`` works in processes of their own: on the cluster of RAY_ADDRESS, or on this machine, loopback only.
            ``inline`` works in this process, one unit after the other. ``auto`` is ``ray`` unless this machine has one core
            and no cluster is named, or the work is known to be done before Ray and its workers would be there.
        slots: how many workers; as many as fit by default.
        cpus_per_slot: CPU cores of each.
        gpus_per_slot: GPUs of each; a fraction shares a device. By default 1 where Ray (inline: PyTorch) sees a GPU
            when the run begins and the step can use one, else 0. A cluster that starts its GPU nodes when they are asked for
            must be asked.
        deadline_seconds: how long one try of one unit may take before its worker is replaced (``ray`` only).
        quiet: no progress line.
        retry_failed: also try the images again that failed in an earlier run.
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
        """What ``kind`` comes to on this machine, for work that is not too little."""
        from tasks.pool.ray_local import cores

        if self.kind == "auto":
            return "ray" if os.environ.get("RAY_ADDRESS") or cores() > 1 else "inline"
        return self.kind
