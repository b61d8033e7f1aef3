"""One run under blows: the same command is started again whenever it was killed, until it ends well."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.blows import Blow, Target, draw
from tests.chaos.check import Check, compare
from tests.chaos.cluster import RayCluster
from tests.chaos.processes import MARK, family, kill, marked, wait_for
from tests.chaos.storage import BUCKET, S3Server, put_images

_log = logging.getLogger("ganinv.chaos")

METHOD = """
name: chaos
summary: One pass of the e4e encoder, in units of sixteen images
space: w+
batch_size: 8
stages:
  - {kind: encode, encoder: e4e}
"""
UNIT = 16
RESTARTS = 3  # of a driver that ended badly without a blow; more is a fault
PATIENCE = 900.0  # seconds without a new part


@dataclass
class Report:
    """``events``: (seconds since the first driver, parts written, what was done, to whom); ``checks``: what came out."""

    events: list[tuple[float, int, str, str]] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    blows: int = 0
    seconds: float = 0.0
    undisturbed_seconds: float = 0.0
    own_ends: int = 0  # of the driver, without a blow

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)


def run_chaos(folder: Path, seed: int, images: int, counts: Mapping[Target, int], nodes: int = 2) -> Report:
    """Invert ``images`` twice, undisturbed and under blows, and compare. ``folder`` keeps logs and the server's objects."""
    mark, report, bad = f"chaos-{uuid.uuid4().hex[:8]}", Report(), max(1, images // 100)
    (folder / "chaos.yaml").write_text(METHOD)
    with ExitStack() as stack:
        server = stack.enter_context(S3Server(mark, folder / "s3"))
        dataset = put_images(server, images, bad, seed)
        command = [sys.executable, "-c", "from flows.cli import main; main()", "invert", f"--dataset={dataset}"]
        command += [f"--method={folder / 'chaos.yaml'}", "--json"]
        started = time.monotonic()
        environment = {**os.environ, **server.environment, MARK: f"{mark}/whole/", "RAY_ADDRESS": ""}
        environment["OMP_NUM_THREADS"] = (
            "1"  # as each worker has: sums of another number of threads differ in the last bit
        )
        with (folder / "whole.log").open("wb") as log:
            inline = [*command, f"--store=s3://{BUCKET}/whole", "--engine=inline"]
            subprocess.run(inline, env=environment, stdout=log, stderr=log, check=True, timeout=3600)
        report.undisturbed_seconds = time.monotonic() - started
        cluster = stack.enter_context(RayCluster(mark, nodes, server.environment))
        blows = draw(seed, counts, -(-images // UNIT))
        _Run(folder, mark, server, cluster, [*command, f"--store=s3://{BUCKET}/cut"], report, seed).until_done(blows)
        report.checks += compare(server, "whole/latents/chaos", "cut/latents/chaos", images, bad)
        report.checks.append(_gone("no worker outlives the run", cluster.workers))
    report.checks.append(_gone("no process is left", lambda: marked(mark) | cluster.processes()))
    return report


def _gone(name: str, find: Any) -> Check:
    try:
        wait_for(lambda: not find(), 10, name)
    except TimeoutError:
        return Check(name, False, f"processes {sorted(find())}")
    return Check(name, True)


class _Run:
    def __init__(
        self,
        folder: Path,
        mark: str,
        server: S3Server,
        cluster: RayCluster,
        command: list[str],
        report: Report,
        seed: int,
    ) -> None:
        self.server, self.cluster, self.report = server, cluster, report
        self._command, self._folder, self._random = command, folder, random.Random(seed)
        self._environment = {**os.environ, **cluster.environment, MARK: f"{mark}/driver/"}
        self._began = self._progress = time.monotonic()
        self._parts = 0
        self._starting: list[Future[str]] = []

    def until_done(self, blows: list[Blow]) -> None:
        with ThreadPoolExecutor(1) as self._nodes:
            self._start_driver()
            for blow in blows:
                while self._running() and self._written() < blow.after:
                    time.sleep(0.1)
                time.sleep(blow.delay)
                if self._driver.poll() != 0:
                    self._strike(blow)
            while self._running():
                time.sleep(0.1)
            for node in self._starting:
                node.result()
        self.report.seconds = time.monotonic() - self._began

    def _strike(self, blow: Blow) -> None:
        victim = ""
        if blow.target == "worker":
            while self._running() and not self.cluster.workers():
                time.sleep(0.1)
            workers = sorted(self.cluster.workers())
            if not workers:
                return
            pid = self._random.choice(workers)
            kill({pid})
            victim = f"process {pid}"
        elif blow.target == "node":
            while self._running() and not self.cluster.nodes:
                time.sleep(0.1)
            node = self._random.choice(self.cluster.nodes)
            self.cluster.kill_node(node)
            self._starting.append(self._nodes.submit(self.cluster.add_node))
            victim = f"{node.split('/')[-2]}, and a new one started"
        elif blow.target == "spot":
            while self._running() and not self.cluster.nodes:
                time.sleep(0.1)
            node = self._random.choice(self.cluster.nodes)
            self._starting.append(self._nodes.submit(self._replace_spot, node))
            victim = f"{node.split('/')[-2]}, told before, and a new one started"
        elif blow.target == "driver":
            kill(family({self._driver.pid}))
            self._driver.wait()
            victim = f"process {self._driver.pid}, and the same command again"
            self._start_driver()
        else:
            victim = f"process {self.server.kill()}, down for {blow.down:.1f} s"
        self.report.blows += 1
        self._note(blow.target, victim)
        if blow.target == "s3":
            time.sleep(blow.down)
            self.server.start()

    def _replace_spot(self, node: str) -> str:
        if node in self.cluster.nodes:  # not killed in the meantime
            self.cluster.preempt_node(node, notice=2)
        return self.cluster.add_node()

    def _start_driver(self) -> None:
        with (self._folder / "cut.log").open("ab") as log:
            log.write(f"\n--- driver, {time.monotonic() - self._began:.1f} s\n".encode())
            log.flush()
            self._driver = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)

    def _running(self) -> bool:
        """False when the run has ended well. One that ended badly by itself is started again, a few times."""
        code = self._driver.poll()
        if code is not None and code != 0:
            self.report.own_ends += 1
            self._note("ended by itself", f"driver, exit code {code}")
            if self.report.own_ends > RESTARTS:
                raise RuntimeError(f"the run ended badly {self.report.own_ends} times: see {self._folder / 'cut.log'}")
            self._start_driver()
        if time.monotonic() - self._progress > PATIENCE:
            raise TimeoutError(f"no part was written for {PATIENCE:g} s: see {self._folder / 'cut.log'}")
        return code != 0

    def _written(self) -> int:
        parts = self.server.parts("cut/latents/chaos")
        if parts != self._parts:
            self._parts, self._progress = parts, time.monotonic()
        return parts

    def _note(self, what: str, victim: str) -> None:
        event = (time.monotonic() - self._began, self._written(), what, victim)
        self.report.events.append(event)
        _log.info("%6.1f s, %d parts: %s: %s", *event)
