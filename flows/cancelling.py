"""Cancelling from inside: a run checks whether it was cancelled, so that its workers end within seconds.

A Prefect worker ends the process of a cancelled run, but only some time later, and a flow that was started by hand has
no worker at all. Both ask here.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_log = logging.getLogger("ganinv.flows")

ASK_SECONDS = 1.0  # one request of some 25 ms


@contextmanager
def cancel_watch() -> Iterator[Callable[[], bool]]:
    """A function that says whether this flow run was cancelled meanwhile. Outside a run it never was."""
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        yield lambda: False
        return
    cancelled, over = threading.Event(), threading.Event()
    # Prefect keeps the server's address in a context variable, and threads begin without any.
    thread = threading.Thread(
        target=contextvars.copy_context().run, args=(_ask, context.flow_run.id, cancelled, over), daemon=True
    )
    thread.start()
    try:
        yield cancelled.is_set
    finally:
        over.set()
        thread.join(timeout=10)


def _ask(run: UUID, cancelled: threading.Event, over: threading.Event) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import StateType

    with ExitStack() as stack:
        client: SyncPrefectClient | None = None
        while not over.wait(ASK_SECONDS) and not cancelled.is_set():
            try:
                # One client for all questions: making one takes longer than asking.
                client = client or stack.enter_context(get_client(sync_client=True))
                state = client.read_flow_run(run).state
            except Exception as error:  # a server that restarts must not end a week's work
                _log.warning("the Prefect server was not asked whether the run is cancelled: %s", error)
                continue
            if state is not None and state.type in (StateType.CANCELLING, StateType.CANCELLED):
                cancelled.set()
