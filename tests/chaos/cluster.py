"""A Ray cluster of real ``ray start`` nodes on loopback: a head without CPUs, and nodes with one each that may be killed."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tasks.pool.ray_local import LOOPBACK, token_file
from tests.chaos.processes import MARK, answers, command, family, free_port, holding, kill, kill_all, marked, wait_for

_log = logging.getLogger("ganinv.chaos")
TRIES = 4  # Ray gives a node thirty seconds to come up, on a busy machine that is not enough


class RayCluster:
    """Use as a context manager; ``environment`` is what a driver needs to join.

    Args:
        mark: begins the marks of all its processes; a node's own is ``<mark>/node-<n>/``.
        environment: of every node, besides this process's own.
    """

    def __init__(self, mark: str, nodes: int, environment: Mapping[str, str]) -> None:
        self.mark, self._wanted = f"{mark}/ray", nodes
        self._folder = Path(tempfile.mkdtemp(prefix="gc-"))  # sockets lie below it, and a socket's path is short
        self._port, self._started, self.nodes = free_port(), 0, list[str]()
        self.environment = {
            **environment,
            LOOPBACK: "0",
            "RAY_TMPDIR": str(self._folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token_file(self._folder / "token")),
            "RAY_ADDRESS": f"127.0.0.1:{self._port}",
            "RAY_USAGE_STATS_ENABLED": "0",
            # A node that is gone is to be noticed within seconds (docs/architecture.md, deploy/).
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "2000",
            "RAY_health_check_failure_threshold": "5",
        }

    def __enter__(self) -> RayCluster:
        try:
            head = ["--head", f"--port={self._port}", "--num-cpus=0", "--include-dashboard=false"]
            self._start("head", "ray.scripts.scripts", [*head, f"--temp-dir={self._folder}"])
            for _ in range(self._wanted):
                self.add_node()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        kill_all(self.processes)
        shutil.rmtree(self._folder, ignore_errors=True)

    def add_node(self) -> str:
        """Start a node; its mark."""
        self._started += 1
        name = f"node-{self._started}"
        address = f"--address={self.environment['RAY_ADDRESS']}"
        self.nodes.append(self._start(name, "tests.chaos.ray_start", [address, "--num-cpus=1"]))
        return self.nodes[-1]

    def kill_head(self) -> None:
        """Kill the control store, and all else that the head runs. Its nodes end by themselves, a minute later."""
        kill(family(marked(f"{self.mark}/head/")))

    def kill_node(self, mark: str) -> None:
        """Kill its raylet, agents and workers at once."""
        self.nodes.remove(mark)
        kill(family(marked(mark)))

    def preempt_node(self, mark: str, notice: float) -> None:
        """As a cloud takes a spot machine back: Ray is told, and so many seconds later it is killed."""
        node = re.search(r"--node_id=(\w+)", " ".join(command(pid) for pid in marked(mark)))
        drain = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", f"--node-id={node[1] if node else ''}"]
        drain += ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot"]
        drain += [f"--deadline-remaining-seconds={round(notice)}", f"--address={self.environment['RAY_ADDRESS']}"]
        environment = {**os.environ, **self.environment, MARK: f"{self.mark}/drain/"}
        subprocess.run(drain, env=environment, capture_output=True, timeout=120, check=False)
        time.sleep(notice)
        if mark in self.nodes:  # nobody killed it in the meantime
            self.kill_node(mark)

    def processes(self) -> set[int]:
        """All that belong to the cluster, whichever process is their parent by now."""
        return marked(self.mark) | holding(self._folder)

    def workers(self) -> set[int]:
        """Processes that hold a worker of the pool."""
        return {pid for pid in self.processes() if command(pid).startswith("ray::Slot")}

    def _start(self, name: str, module: str, arguments: list[str]) -> str:
        mark = f"{self.mark}/{name}/"
        start = [sys.executable, "-m", module, "start", "--node-ip-address=127.0.0.1"]
        start += ["--object-store-memory=80000000", *arguments]
        for attempt in range(1, TRIES + 1):
            # Nothing holds the output open: the node's services outlive the command.
            done = subprocess.run(
                start,
                env={**os.environ, **self.environment, MARK: mark},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=300,
                check=False,
            )
            if done.returncode == 0:
                wait_for(lambda: answers(self._port), 60, "the head of the cluster")
                return mark
            _log.warning("%s did not come up (attempt %d)", name, attempt)
            kill(family(marked(mark)))
        raise TimeoutError(f"{name} did not come up in {TRIES} attempts: this machine is too busy")
