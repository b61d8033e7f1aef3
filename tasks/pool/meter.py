"""``Meter``: what a pool does, as metrics of Ray. Every Ray node serves them to Prometheus on its metrics port.

All come from the driver, which sees every unit. Ray puts ``ray_`` before the names, and ``_total`` behind counters.

======================================  =========  ==================================================================
name                                    kind       meaning
======================================  =========  ==================================================================
``ganinv_images`` {stage, outcome}      counter    images of committed units: ``ok``, or the code of their error row
``ganinv_images_per_second`` {stage}    gauge      over the last minute
``ganinv_queue_units`` {stage, state}   gauge      ``waiting``, ``running`` (one runs and one waits in each slot)
``ganinv_worker_seconds`` {stage}       counter    that slots worked on units that were committed
``ganinv_cpu_seconds`` {stage}          counter    of processor time in them, all threads
``ganinv_gpu_seconds`` {stage}          counter    that they held a device; half a second for a slot with half of one
``ganinv_retries`` {stage, reason}      counter    tries that failed, by what failed: ``raised``, ``died``, ``store``, ...
======================================  =========  ==================================================================
"""

from __future__ import annotations

import time
from collections import Counter as Counts
from collections import deque
from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge

from tasks.pool.contract import UnitReport

WINDOW_SECONDS = 60.0


class Meter:
    """Metrics of one run of a pool.

    Args:
        stage: the label of the run, such as ``invert pti``.
        gpus_per_slot: devices that each slot holds.
    """

    def __init__(self, stage: str, gpus_per_slot: float) -> None:
        self._tags, self._gpus = {"stage": stage}, gpus_per_slot
        self._images = Counter("ganinv_images", "Images of committed units.", ("stage", "outcome"))
        self._rate = Gauge("ganinv_images_per_second", "Images per second over the last minute.", ("stage",))
        self._queue = Gauge("ganinv_queue_units", "Units that wait or run.", ("stage", "state"))
        self._worker = Counter("ganinv_worker_seconds", "Seconds that slots worked on units.", ("stage",))
        self._cpu = Counter("ganinv_cpu_seconds", "Processor seconds in units, all threads.", ("stage",))
        self._gpu = Counter("ganinv_gpu_seconds", "Seconds that units held a device.", ("stage",))
        self._retries = Counter("ganinv_retries", "Tries that failed.", ("stage", "reason"))
        self._retried: Counts[str] = Counts()
        self._recent: deque[tuple[float, int]] = deque()
        self._started = time.monotonic()
        self._shown = (-1, -1)

    def report(self, report: UnitReport) -> None:
        """Count a committed unit."""
        for outcome, count in {"ok": report.ok, **report.reasons}.items():
            if count:
                self._images.inc(count, self._tags | {"outcome": outcome})
        for counter, seconds in (
            (self._worker, report.seconds),
            (self._cpu, report.cpu_seconds),
            (self._gpu, report.seconds * self._gpus),
        ):
            if seconds > 0:
                counter.inc(seconds, self._tags)
        now = time.monotonic()
        self._recent.append((now, report.ok + report.failed))
        self._show_rate(now)

    def queue(self, waiting: int, running: int, retries: Mapping[str, int]) -> None:
        """How many units wait and run now, and all tries that failed so far by their kind."""
        if (waiting, running) != self._shown:
            self._shown = (waiting, running)
            self._queue.set(waiting, self._tags | {"state": "waiting"})
            self._queue.set(running, self._tags | {"state": "running"})
        for reason, count in retries.items():
            if count > self._retried[reason]:
                self._retries.inc(count - self._retried[reason], self._tags | {"reason": reason})
                self._retried[reason] = count

    def close(self) -> None:
        """Nothing waits, runs or comes any more."""
        self.queue(0, 0, {})
        self._rate.set(0.0, self._tags)

    def _show_rate(self, now: float) -> None:
        while self._recent[0][0] < now - WINDOW_SECONDS:
            self._recent.popleft()
        seconds = min(WINDOW_SECONDS, now - self._started)
        self._rate.set(sum(images for _, images in self._recent) / max(seconds, 1e-9), self._tags)
