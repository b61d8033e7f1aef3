"""A Prefect server for the flows of this process, when no other is named.

Prefect would start one itself, but only when the flow begins, and after it has imported the server's code here too. This
one starts while the flow's modules are imported::

    with own_server() as ready:
        from flows.chain import chain
        ready()
        chain(job)

It has a session of its own, because a signal goes to the whole process group of a terminal or of ``timeout``: a run that is
ended still has to say so to its server. It ends with this process, however that ends.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flows.address import check_address, server_errors
from flows.runtime import prepare_environment
from ganinv.errors import Unavailable

GRACE_SECONDS = 3.0  # for a server to end by itself


@contextmanager
def own_server() -> Iterator[Callable[[], None]]:
    """A block with a server on loopback, on this user's data base, that asks for a password of its own. The function that
    it gives waits until the server answers, and raises :class:`Unavailable` when it does not. Where Prefect's settings name
    a server, or forbid one for a process, nothing is started.
    """
    prepare_environment()
    from prefect.settings import Settings, get_current_settings

    # What is current is asked with half of Prefect's modules, which nobody has imported yet: nothing was changed either.
    settings = get_current_settings() if "prefect.context" in sys.modules else Settings()
    if settings.api.url or not settings.server.ephemeral.enabled:
        check_address(settings)
        with server_errors(settings.api.url):
            yield lambda: None
        return
    auth = f"ganinv:{secrets.token_hex(16)}"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.server", str(listening.fileno())],
            stdin=subprocess.PIPE,  # its end tells the server that this process is gone
            pass_fds=[listening.fileno()],
            start_new_session=True,
            env={**os.environ, "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
            | {"PREFECT_UI_ENABLED": "0", "PREFECT_SERVER_API_AUTH_STRING": auth},
        )
    try:
        from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

        with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: auth}), _interrupts_said_once():
            yield lambda: _wait(url, settings.server.ephemeral.startup_timeout_seconds)
    finally:
        _drain()
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(2 * GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(url: str, seconds: float) -> None:
    """The socket takes connections from the beginning; the answer comes when the server is up."""
    import httpx

    try:
        httpx.get(f"{url}/health", timeout=seconds, trust_env=False).raise_for_status()  # no proxy on the way
    except httpx.HTTPError as error:
        raise Unavailable(
            f"the Prefect server of this run did not come up within {seconds:g} s: {error!r}. Try again, or name one that "
            "runs (PREFECT_API_URL)"
        ) from error


@contextmanager
def _interrupts_said_once() -> Iterator[None]:
    """A run that a signal ends is in the state Crashed; the log need not say so for each task, the command says it once."""
    from prefect.logging import get_logger

    def kept(record: logging.LogRecord) -> bool:
        return "Execution was aborted by" not in record.getMessage()

    loggers = [get_logger(name) for name in ("flow_runs", "task_runs")]
    for logger in loggers:
        logger.addFilter(kept)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(kept)


def _drain() -> None:
    """Hand over what Prefect's threads still hold; at the end of the process they would find no server."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for service in (APILogWorker, EventsWorker):
        logging.getLogger(service.__name__).setLevel(logging.ERROR)  # it would warn of what it still has to do
        service.drain_all(timeout=GRACE_SECONDS)


def serve(listening: socket.socket) -> None:
    """Run the server until standard input ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import uvicorn

    app = "prefect.server.api.server:create_app"
    uvicorn.Server(uvicorn.Config(app, factory=True, log_level="error", lifespan="on")).run(sockets=[listening])


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)  # open connections may keep it; what it was told is in the data base
    os._exit(0)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
