"""What every flow shares: Prefect's settings, how a step becomes a task, and artifacts that cannot break a run.

A step is a plain function ``run_sample(job, ...) -> dict`` of ``tasks``; here it gets a state, retries and a history::

    sample = as_task(run_sample, "sample")

    def run_chain(job: ChainJob) -> dict[str, Any]:
        return sample(job.sample)

    chain = as_flow(run_chain, "chain")

Prefect is imported inside the functions, because its switches act at import, and because it takes two seconds that a
command without Prefect need not spend.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast
from uuid import UUID

from ganinv.errors import GaninvError, Unavailable
from tasks.pool import RunStopped
from tasks.pool.progress import ProgressLine
from tasks.summary import read_summary

if TYPE_CHECKING:
    from prefect import Flow, Task
    from prefect.client.schemas.objects import State, TaskRun

    from tasks.engine import Pools

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger("ganinv.flows")

RETRY_PAUSES = (10.0, 60.0)  # seconds; a step resumes, so that a retry costs only the units that are missing
ARTIFACT_PAUSE = 2.0  # seconds between two updates of a progress artifact, each is a request of some 25 ms
LOG_PAUSE = 60.0  # seconds between two lines in the log of a run


def prepare_environment() -> None:
    """Set Prefect's switches before it is imported; what the environment says already stays."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    # Without PREFECT_API_URL a flow starts a server of its own and ends it with itself.
    os.environ.setdefault("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "true")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "300")


def as_task(step: Callable[P, R], name: str, *, retry_pauses: Sequence[float] = RETRY_PAUSES) -> Task[P, R]:
    """A step function as a Prefect task: no cache, no stored result, retried unless trying again cannot help.

    Prefect's cache does not look whether an artefact still exists; what is done is read from the store instead.

    Args:
        step: takes small models, returns a small JSON-able dict.
        retry_pauses: seconds before each retry; their number is the number of retries.
    """
    prepare_environment()
    from prefect import task
    from prefect.cache_policies import NO_CACHE

    return task(
        name=name,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=len(retry_pauses),
        retry_delay_seconds=list(retry_pauses) or None,
        retry_condition_fn=worth_retrying,
    )(step)


def run_as_task(run: Callable[[Any, Pools], dict[str, Any]], job: Any, pools: Pools, name: str) -> dict[str, Any]:
    """One step as a task of the flow that calls it, with its summary as an artifact."""

    # The pool is closed over, not passed: Prefect should not see a connection as a parameter.
    def body(job: Any) -> dict[str, Any]:
        result = run(job, pools)
        summary(result)
        return result

    return as_task(body, name)(job)


def as_flow(body: Callable[P, R], name: str) -> Flow[P, R]:
    """A function that calls tasks as a Prefect flow without stored results. Its tasks retry, the flow does not.

    A run that was cancelled (``flows.cancelling``) ends in the state Cancelled.
    """
    prepare_environment()
    from prefect import flow
    from prefect.logging import get_logger
    from prefect.states import Cancelled

    for logger in ("flow_runs", "task_runs"):
        get_logger(logger).addFilter(_without_traceback)

    @functools.wraps(body)
    def cancellable(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return body(*args, **kwargs)
        except RunStopped as stopped:
            return cast(R, Cancelled(message=str(stopped)))  # Prefect takes a returned state for the run's own

    # Prefect reads the types off the signature; their names are known where the body is, not here.
    cancellable.__signature__ = inspect.signature(body, eval_str=True)  # type: ignore[attr-defined]
    return flow(name=name, persist_result=False, validate_parameters=True)(cancellable)


def _without_traceback(record: logging.LogRecord) -> bool:
    """An error that says what to do needs no traceback beside it; one that nobody foresaw keeps its own."""
    if record.exc_info and isinstance(record.exc_info[1], GaninvError):
        record.exc_info = record.exc_text = None
    return True


def worth_retrying(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether a failed task should run again: not after an error that ganinv raised on purpose, unless storage was away.

    The others say that a configuration, a weight file or the data must be changed, or come after the pool's own retries.
    """
    try:
        state.result()
    except GaninvError as error:
        return isinstance(error, Unavailable)
    except Exception:
        return True
    return True


def inside_run() -> bool:
    """True inside a Prefect flow or task, where artifacts have somewhere to go."""
    from prefect.context import FlowRunContext, TaskRunContext

    return FlowRunContext.get() is not None or TaskRunContext.get() is not None


class Counts(Protocol):
    """A :class:`tasks.pool.UnitReport`, as far as progress is concerned."""

    @property
    def ok(self) -> int: ...
    @property
    def failed(self) -> int: ...


class ProgressArtifact:
    """Progress in Prefect's interface; give :meth:`report` to the pool as ``on_report``. Outside a run it does nothing.

    The artifact moves every few seconds, a line goes to the log of the run every minute (``ganinv logs``).

    Args:
        key: of the artifact, such as ``invert-ffhq``.
        total: images.
    """

    def __init__(self, key: str, total: int) -> None:
        self._key, self._total, self._done, self._failed = key, total, 0, 0
        self._id: UUID | None = None
        self._last = self._last_line = 0.0
        self._line = ProgressLine(key, total, quiet=True)

    def __enter__(self) -> ProgressArtifact:
        if inside_run():
            from prefect.artifacts import create_progress_artifact

            made = _unharmed(
                create_progress_artifact, progress=0.0, key=artifact_key(self._key), description=self._text
            )
            self._id = made if isinstance(made, UUID) else None
            self._last = self._last_line = time.monotonic()
        self._line.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._update()
        self._log()

    def report(self, counts: Counts) -> None:
        """Count the images of one committed unit."""
        self._done += counts.ok + counts.failed
        self._failed += counts.failed
        self._line.add(counts.ok, counts.failed)
        if time.monotonic() - self._last_line >= LOG_PAUSE:
            self._log()
        if time.monotonic() - self._last >= ARTIFACT_PAUSE:
            self._update()

    @property
    def _text(self) -> str:
        return f"{self._done} of {self._total} images, {self._failed} failed"

    def _log(self) -> None:
        if inside_run():
            from prefect.logging import get_run_logger

            _unharmed(get_run_logger().info, msg=self._line.line())
            self._last_line = time.monotonic()

    def _update(self) -> None:
        if self._id is None:
            return
        from prefect.artifacts import update_progress_artifact

        percent = 100.0 * self._done / self._total if self._total else 100.0
        _unharmed(update_progress_artifact, artifact_id=self._id, progress=min(percent, 100.0), description=self._text)
        self._last = time.monotonic()


def markdown(key: str, text: str, description: str = "") -> None:
    """A Markdown artifact; nothing outside a run."""
    if inside_run():
        from prefect.artifacts import create_markdown_artifact

        _unharmed(create_markdown_artifact, markdown=text, key=artifact_key(key), description=description)


def summary(result: Mapping[str, Any]) -> None:
    """The summary beside the collection that a step filled (``tasks.summary``), as a Markdown artifact."""
    if inside_run() and "collection" in result and "url" in result:
        with suppress(GaninvError):  # the step is done; its summary is a courtesy
            if text := read_summary(str(result["url"])):
                markdown(f"summary-{result['collection']}", text, "What was done")


def table(key: str, rows: Sequence[Mapping[str, Any]], description: str = "") -> None:
    """A table artifact, one mapping per row; nothing outside a run."""
    if inside_run():
        from prefect.artifacts import create_table_artifact

        plain = [dict(row) for row in rows]
        _unharmed(create_table_artifact, table=plain, key=artifact_key(key), description=description)


def artifact_key(name: str) -> str:
    """``name`` as Prefect wants keys: lower case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "ganinv"


def _unharmed(call: Callable[..., Any], **arguments: Any) -> Any:
    """Call Prefect; if its server is not reachable, continue without it."""
    try:
        return call(**arguments)
    except Exception as error:
        _log.warning("no Prefect artifact was written: %s", error)
        return None
