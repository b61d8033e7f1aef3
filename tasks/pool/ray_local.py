"""A connection to Ray: an existing cluster when there is an address, else Ray on this machine, reachable only from it.

A plain ``ray.init()`` listens on every interface, and anyone who reaches its ports can run code. The local Ray therefore
binds to loopback and asks for a token that only this user can read. Ray reads these switches when it is imported, so
nothing here imports Ray before :func:`prepare_environment`.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ganinv.errors import ConfigError
from tasks.pool.contract import PoolError

_log = logging.getLogger("ganinv.pool")

LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0": every service of the node on 127.0.0.1, on Linux too
PROBE_SECONDS = 10.0
_SYSTEM_CONFIG = {
    # Ray would start a process for each core beforehand; slots have an environment of their own and cannot use them.
    "prestart_worker_first_driver": False,
    "enable_worker_prestart": False,
    # Events of tasks are for a dashboard, and there is no dashboard. A driver whose Ray was stopped before it, as when its whole
    # process group is, would wait five seconds to hand them over.
    "task_events_report_interval_ms": 0,
}
_STARTING = threading.Lock()
_LONGEST_FOLDER = 40  # characters: Ray puts sockets below it, and a socket's path may have 107


@contextmanager
def connected(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    object_store_bytes: int | None = None,
) -> Iterator[None]:
    """A block with a Ray connection. One that exists already is used and left open.

    SIGTERM ends the block with an exception, so that the code that started workers in it can end them. A handler that was set
    before (Prefect has one) is kept: Ray would replace it.

    Args:
        address: of a cluster (``host:port``); None takes ``RAY_ADDRESS``, and without it starts Ray here.
        num_cpus: of the Ray started here; None takes the cores this process may use.
        num_gpus: of the Ray started here; None lets Ray look for them.
        object_store_bytes: memory of the Ray started here; None leaves it to Ray. Results do not pass through it.

    Raises:
        PoolError: Ray cannot be reached or started, or was imported too early to be kept on loopback.
    """
    address = address or os.environ.get("RAY_ADDRESS") or None
    prepare_environment(local=address is None)
    main_thread = threading.current_thread() is threading.main_thread()
    with _STARTING:  # another thread may have begun (tasks.pool.early)
        import ray

        there = ray.is_initialized()
        before = signal.getsignal(signal.SIGTERM) if main_thread and not there else None
        if there:
            pass
        elif address is not None:
            _join(address)
        else:
            _start(num_cpus or cores(), num_gpus, object_store_bytes)
    if there:
        yield
        return
    try:
        if before is not None:
            signal.signal(signal.SIGTERM, _leave if before is signal.SIG_DFL else before)
        yield
    finally:
        ray.shutdown()
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _join(address: str) -> None:
    import ray

    try:
        _probe(address)
        ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
    except Exception as error:  # of Ray, of its transport, of the socket: they have no common base
        raise PoolError(
            f"the Ray cluster at {address} cannot be joined: {error}. Check RAY_ADDRESS, the token "
            "(RAY_AUTH_TOKEN_PATH) and that both sides run the same versions of Ray and Python"
        ) from error


def _start(num_cpus: int, num_gpus: int | None, object_store_bytes: int | None) -> None:
    import ray

    # Signals belong to the code that opened the connection; outside the main thread Ray would warn that it cannot have them.
    logging.getLogger("ray._private.worker").addFilter(lambda record: "SIGTERM handler" not in record.getMessage())
    for last in (False, True):
        try:
            ray.init(
                num_cpus=num_cpus,
                num_gpus=num_gpus,
                include_dashboard=False,
                object_store_memory=object_store_bytes,
                logging_level=logging.WARNING,
                log_to_driver=False,
                _system_config=dict(_SYSTEM_CONFIG),  # Ray adds to it
            )
            return
        except Exception as error:  # a plain Exception, when the node does not come up within Ray's fixed 30 s
            ray.shutdown()
            if last:
                raise PoolError(
                    f"Ray cannot be started on this machine: {error}. The inline engine works without"
                ) from error
            _log.warning("Ray did not start and is tried once more; is this machine very busy? (%s)", error)


def prepare_environment(*, local: bool = True) -> None:
    """Set Ray's switches; what the environment says already stays. To be called before Ray is imported.

    Args:
        local: this process will start Ray itself. False for a driver that joins a cluster, which has its own settings.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # Ray warns that it will stop hiding GPUs from those who asked for none; the engine hides them itself.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if not local:
        return
    if "ray" in sys.modules and os.environ.get(LOOPBACK) != "0":
        raise PoolError(
            "Ray was imported before tasks.pool.ray_local could keep it on loopback: import it later, "
            f"or set {LOOPBACK}=0 in the environment"
        )
    os.environ[LOOPBACK] = "0"
    folder = private_folder()
    os.environ["RAY_TMPDIR"] = str(folder)
    if os.environ.setdefault("RAY_AUTH_MODE", "token") == "token" and not os.environ.get("RAY_AUTH_TOKEN"):
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(token_file(os.environ.get("RAY_AUTH_TOKEN_PATH") or folder / "token"))


def private_folder() -> Path:
    """A short folder that belongs to this user alone (mode 0700); holds Ray's sockets, logs and the token."""
    name = f"ganinv-ray-{os.getuid()}"
    base = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    folder = base if base.name == name else base / name  # set by an earlier call, or by the process that started us
    if len(str(folder)) > _LONGEST_FOLDER:
        folder = Path("/tmp") / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise ConfigError(f"{folder} belongs to somebody else: set RAY_TMPDIR to a short path of a folder of your own")
    folder.chmod(0o700)
    return folder


def token_file(path: str | Path) -> Path:
    """The file with the token, created when absent. Mode 0600: Ray itself would write it readable for everybody."""
    path = Path(path)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        path.chmod(0o600)
    else:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))
    return path


def _probe(address: str) -> None:
    """Fail at once when nothing listens at ``host:port``; Ray itself would try for two minutes."""
    host, colon, port = address.rpartition(":")
    if colon and "://" not in address and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS).close()


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
