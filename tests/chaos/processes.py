"""Processes identified by a mark in their environment, by their parents, or by the files that they hold open.

Ray's workers write their name over their environment, so that a mark is not enough for them.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

MARK = "GANINV_CHAOS_MARK"


def marked(mark: str) -> set[int]:
    """Living processes whose mark begins with ``mark``."""
    wanted = f"\0{MARK}={mark}".encode()
    return {pid for pid in _all() if wanted in b"\0" + _read(pid, "environ") and command(pid)}


def holding(folder: Path) -> set[int]:
    """Living processes with an open file below ``folder``."""
    return {pid for pid in _all() if any(link.startswith(f"{folder}/") for link in _links(pid)) and command(pid)}


def family(processes: set[int]) -> set[int]:
    """Processes and all that descend from them."""
    parents = {pid: _parent(pid) for pid in _all()}
    found = set(processes)
    while grown := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= grown
    return found


def command(pid: int) -> str:
    """The command line; empty when the process has ended, also when nobody has asked for its exit status yet."""
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()


def kill(processes: set[int]) -> None:
    """``kill -9``, all at once."""
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_all(find: Callable[[], set[int]]) -> None:
    """Kill until nothing is found any more: a process may have started another in the meantime."""
    end = time.monotonic() + 60
    while found := find():
        if time.monotonic() > end:
            raise TimeoutError(f"processes {sorted(found)} do not end")
        kill(found)
        time.sleep(0.1)


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Ask until it is true.

    Raises:
        TimeoutError: it did not become true in time.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def answers(port: int) -> bool:
    """Something listens at this port of this machine."""
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


def _all() -> list[int]:
    return [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdecimal()]


def _read(pid: int, name: str) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""


def _links(pid: int) -> list[str]:
    links = []
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                links.append(os.readlink(link))
    return links


def _parent(pid: int) -> int:
    fields = _read(pid, "stat").decode(errors="replace").rpartition(")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0
