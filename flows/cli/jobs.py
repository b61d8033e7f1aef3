"""From the words of a command line to a job model, and its step run here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flows.cli.output import show
from ganinv.errors import ConfigError


def engine_of(kind: str, slots: int | None, retry_failed: bool = False) -> Any:
    from tasks.engine import Engine

    return job_of(Engine, {"kind": kind, "slots": slots, "retry_failed": retry_failed})


def job_of(model: Any, fields: dict[str, Any]) -> Any:
    from ganinv.config import validate

    return validate(model, {k: v for k, v in fields.items() if v is not None}, "command line")


def run_step(step: Callable[..., dict[str, Any]], job: Any, engine: str, slots: int | None, as_json: bool) -> None:
    from tasks.engine import open_pools

    with open_pools(engine_of(engine, slots)) as pools:
        result = step(job, pools)
    show(result, as_json)


def pairs(texts: list[str] | None) -> dict[str, str]:
    pairs = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"expected key=value, got {text!r}")
        pairs[key.strip()] = value.strip()
    return pairs
