"""From the words of a command line to a job model, and its step run here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from rich.console import Console

from flows.cli.output import show
from ganinv.errors import ConfigError


def engine_of(kind: str, slots: int | None, retry_failed: bool = False) -> Any:
    from tasks.engine import Engine

    return job_of(Engine, {"kind": kind, "slots": slots, "retry_failed": retry_failed})


def job_of(model: Any, fields: dict[str, Any]) -> Any:
    from ganinv.config import validate

    return validate(model, {k: v for k, v in fields.items() if v is not None}, "command line")


def run_step(
    step: Callable[..., dict[str, Any]],
    job: Any,
    engine: str,
    slots: int | None,
    as_json: bool,
    allow_failed: str | None = None,
) -> None:
    from tasks.engine import open_pools

    with open_pools(engine_of(engine, slots)) as pools:
        result = step(job, pools)
    end(result, as_json, allow_failed)


FAILED = 3
"""The exit code of a run that came to its end, and of which more images failed than --allow-failed says."""


def end(result: dict[str, Any], as_json: bool, allow_failed: str | None = None) -> None:
    """Print a result, then why images failed; leave with ``FAILED`` where these are too many."""
    show(result if as_json else _without_failures(result), as_json)
    tell_failures(result, allow_failed)


def tell_failures(result: dict[str, Any], allow_failed: str | None) -> None:
    """The last lines of a run: why images failed. Leaves with ``FAILED`` where these are too many."""
    from tasks.outcome import is_too_much, lines

    tell = Console(stderr=True)
    for line in lines(result):
        tell.print(line, highlight=False, markup=False, soft_wrap=True)
    if is_too_much(result, allow_failed):
        limit = "images failed" if allow_failed is None else f"more than {allow_failed} failed"
        tell.print(f"{limit}: exit code {FAILED}, which --allow-failed changes", highlight=False, soft_wrap=True)
        raise typer.Exit(FAILED)


def _without_failures(result: dict[str, Any]) -> dict[str, Any]:
    """The reasons are told in lines of their own."""
    return {
        key: _without_failures(value) if isinstance(value, dict) else value
        for key, value in result.items()
        if key != "failures"
    }


def pairs(texts: list[str] | None) -> dict[str, str]:
    pairs = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"expected key=value, got {text!r}")
        pairs[key.strip()] = value.strip()
    return pairs
