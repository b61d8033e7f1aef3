"""How many threads a process of the tests may use. A module of its own: it is needed before torch is imported."""

from __future__ import annotations

import os


def threads() -> str:
    """Threads of this process and of those it starts, for ``OMP_NUM_THREADS``: its share of the cores, at most four."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0"))
    if "OMP_NUM_THREADS" in os.environ and not processes:
        return os.environ["OMP_NUM_THREADS"]
    # What the environment says was meant for one process; a worker of xdist has it from the one that started it.
    return str(max(1, min(4, (os.cpu_count() or 1) // max(1, processes))))
