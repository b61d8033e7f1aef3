"""Runs on a Prefect server, seen from elsewhere: submit one, list them, read what one logged, cancel one.

Everything goes through the API of ``PREFECT_API_URL``. Without that variable Prefect starts a server for this process
alone, on the data base of this user: runs of this machine can be listed, but there is nobody to hand a run to.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flows.address import check_address, server_errors
from flows.runtime import prepare_environment
from ganinv.errors import ConfigError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

RECENT = 200  # runs that are looked through for a name or the beginning of an id
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class SubmittedRun:
    """A run in few words. ``seconds`` it has taken so far, or took."""

    id: str
    name: str
    flow: str
    deployment: str | None
    state: str
    started: datetime | None
    seconds: float


@dataclass(frozen=True)
class Line:
    """One line of a run's log."""

    time: datetime
    level: str
    message: str


def submit(to: str, parameters: Mapping[str, Any], flow: str) -> SubmittedRun:
    """Submit a run to the deployment ``to`` (``flow/name``, or ``name`` alone). Returns at once.

    Raises:
        ConfigError: no server, no such deployment, one of another flow than ``flow``, or parameters that it refuses.
    """
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

    if not _server_is_named():
        raise ConfigError(
            "a run can be handed to a deployment only on a Prefect server: set PREFECT_API_URL, such as "
            "http://127.0.0.1:4200/api, or leave --to out to run here"
        )
    name = to if "/" in to else f"{flow}/{to}"
    if name.split("/")[0] != flow:
        raise ConfigError(f"deployment {name!r} runs another flow than {flow!r}, which this command is for")
    with _client() as client:
        try:
            deployment = client.read_deployment_by_name(name)
        except ObjectNotFound:
            known = sorted(d.name for d in client.read_deployments(limit=RECENT))
            raise ConfigError(
                f"no deployment {name!r} on {client.api_url}; there are: {', '.join(known) or 'none'}. "
                "Make them with: prefect deploy --all"
            ) from None
        try:
            run = client.create_flow_run_from_deployment(deployment.id, parameters=dict(parameters))
        except PrefectHTTPStatusError as error:
            if error.response.status_code not in (409, 422):
                raise
            raise ConfigError(f"deployment {name!r} refuses these parameters: {error.response.text}") from None
        return _run(client, run)


def list_runs(limit: int, state: str | None = None, deployment: str | None = None) -> list[SubmittedRun]:
    """The newest runs, newest first; ``state`` such as ``running``, ``deployment`` such as ``invert``."""
    from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort

    with _client() as client:
        found = client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate(
                {"state": {"name": {"any_": [state.title()]}}} if state else {}
            ),
            deployment_filter=DeploymentFilter.model_validate({"name": {"any_": [deployment]}}) if deployment else None,
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=limit,
        )
        return [_run(client, each) for each in found]


def read_run(run: str) -> SubmittedRun:
    """One run by its name, its id, or the beginning of its id."""
    with _client() as client:
        return _run(client, _find(client, run))


def read_log(run: str, skip: int = 0) -> list[Line]:
    """What a run logged, oldest first, without the first ``skip`` lines."""
    from prefect.client.schemas.filters import LogFilter
    from prefect.client.schemas.sorting import LogSort

    with _client() as client:
        chosen = LogFilter.model_validate({"flow_run_id": {"any_": [_find(client, run).id]}})
        lines: list[Line] = []
        while page := client.read_logs(chosen, limit=RECENT, offset=skip + len(lines), sort=LogSort.TIMESTAMP_ASC):
            lines += [Line(each.timestamp, _level(each.level), each.message) for each in page]
        return lines


def cancel(run: str, wait_seconds: float = 60.0) -> SubmittedRun:
    """Ask a run to stop, and wait until it has. What it finished stays in the store; a new run resumes there.

    Raises:
        ConfigError: the run is over.
    """
    from prefect.states import Cancelling

    with _client() as client:
        found = _find(client, run)
        state = found.state
        if state is not None and state.is_final():
            raise ConfigError(f"run {found.name!r} is over ({state.name}): there is nothing to cancel")
        client.set_flow_run_state(found.id, Cancelling(message="ganinv cancel"))
        deadline = time.monotonic() + wait_seconds
        while True:
            found = client.read_flow_run(found.id)
            if (found.state is not None and found.state.is_final()) or time.monotonic() > deadline:
                return _run(client, found)
            time.sleep(POLL_SECONDS)


@contextmanager
def _client() -> Iterator[SyncPrefectClient]:
    """A connection, whose failures become errors that say what to do."""
    prepare_environment()
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    check_address(settings)
    with server_errors(settings.api.url), get_client(sync_client=True) as client:
        yield client


def _server_is_named() -> bool:
    prepare_environment()
    from prefect.settings import get_current_settings

    return bool(get_current_settings().api.url)


def _find(client: SyncPrefectClient, run: str) -> FlowRun:
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_flow_run(UUID(run))
    except (ValueError, ObjectNotFound):
        pass
    named = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate({"name": {"any_": [run]}}), limit=2)
    if len(named) == 1:
        return named[0]
    recent = client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=RECENT)
    found = named or [each for each in recent if str(each.id).startswith(run.lower())]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{run!r} may be any of {len(found)} runs: give more of its id")
    raise ConfigError(f"no run {run!r}: give a name or an id that ganinv runs lists")


def _run(client: SyncPrefectClient, run: FlowRun) -> SubmittedRun:
    deployment = client.read_deployment(run.deployment_id).name if run.deployment_id else None
    return SubmittedRun(
        id=str(run.id),
        name=run.name,
        flow=client.read_flow(run.flow_id).name,
        deployment=deployment,
        state=run.state_name or "unknown",
        started=run.start_time,
        seconds=round(run.estimated_run_time.total_seconds(), 1),
    )


def _level(number: int) -> str:
    names = {10: "debug", 20: "info", 30: "warning", 40: "error", 50: "critical"}
    return names.get(number, str(number))
