"""From what the command line says to a step that runs here, and what is told at its end."""

from __future__ import annotations

from typing import Any

import typer
from rich.console import Console

from flows.cli.flags import Said, load
from flows.cli.output import show


def run_step(run: str, job: Said, engine: Said, as_json: bool, **more: Any) -> None:
    """Run ``package.module:run_*`` with the job that was said, with ``more``, and tell how it ended."""
    from tasks.engine import open_pools

    made = job.make(**more)
    with open_pools(engine.make()) as pools:
        result = load(run)(made, pools)
    end(result, as_json, engine.allow_failed)


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
