"""``ClusterHead``: does the head of the cluster still answer? Without it, workers continue for a while, and Ray then ends the
driver's process from within, with no exception that anybody could catch. The driver gives up before that."""

from __future__ import annotations

import socket
from contextlib import suppress

from tasks.pool.contract import PoolError

HEAD_SECONDS = 30.0
"""Time without an answer before the run ends. Ray itself waits 60 s for a head that is started again (with Redis behind it)."""
PERIOD_SECONDS = 3.0


class ClusterHead:
    """Asked again and again by the driver's loop.

    Args:
        address: ``host:port`` of the cluster's control store (``ray.get_runtime_context().gcs_address``).
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._next = 0.0
        self._away_since: float | None = None

    @property
    def away(self) -> bool:
        """It did not answer when it was asked last."""
        return self._away_since is not None

    def check(self, now: float) -> None:
        """Connect now and then; a :class:`PoolError` when that has failed for too long."""
        if now < self._next:
            return
        self._next = now + PERIOD_SECONDS
        if self._answers():
            self._away_since = None
            return
        self._away_since = now if self._away_since is None else self._away_since
        if now - self._away_since >= HEAD_SECONDS:
            raise PoolError(
                f"the head of the Ray cluster at {self.address} has not answered for {now - self._away_since:.0f} s: its "
                "process or its machine is gone. Committed units are kept; start the cluster again, then the run"
            )

    def _answers(self) -> bool:
        host, _, port = self.address.rpartition(":")
        with suppress(OSError):
            socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
            return True
        return False
