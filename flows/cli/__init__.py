"""The command line: ``ganinv``. A command is a typed function; errors end in one sentence and exit code 1."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from types import FrameType
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from flows.cli import directions, faces, flags, latents, leaderboard, pipeline, runs, studio, weights
from flows.cli.apps import app
from ganinv.errors import ConfigError, GaninvError

__all__ = [
    "app",
    "directions",
    "faces",
    "flags",
    "latents",
    "leaderboard",
    "main",
    "pipeline",
    "runs",
    "studio",
    "weights",
    "whole_command",
]

TERMINATED = 128 + signal.SIGTERM
"""The exit code of a process that is ended by SIGTERM, by convention."""


INTERRUPTED = 128 + signal.SIGINT
"""The same of Ctrl-C: Typer leaves with it."""


@cache
def whole_command() -> Any:
    """Every command with its flags, as Click has them."""
    return typer.main.get_command(app)


def main() -> None:
    """Entry point: turns every deliberate error into one message, and a supervisor's SIGTERM too."""
    before = signal.signal(signal.SIGTERM, _terminated)
    flags.allow_ahead()
    try:
        _check_out(sys.argv[1:])
        whole_command()()
    except GaninvError as error:
        _complain(str(error))
        sys.exit(1)
    except OSError as error:  # of a place that a flag named, and that cannot be written or read
        from ganinv.store.failures import reason

        _complain(f"a file or folder could not be used: {reason(error)}")
        sys.exit(1)
    except SystemExit as left:
        if left.code in (signal.SIGTERM, TERMINATED):  # Ray's handler, while it starts, leaves with the bare number
            _complain("ended by a signal. What is done is kept: run the same command again to continue")
            sys.exit(TERMINATED)
        if left.code == INTERRUPTED:
            _complain("stopped. What is done is kept: run the same command again to continue")
        raise
    finally:
        if "tasks.pool.early" in sys.modules:  # of a command that ended before it came to it
            sys.modules["tasks.pool.early"].drop()
        signal.signal(signal.SIGTERM, before)


def _check_out(words: Sequence[str]) -> None:
    """``--out "$UNSET"`` would write into the folder that the command is called in.

    Raises:
        ConfigError: an empty text.
    """
    if "--out=" in words or any(flag == "--out" and not value.strip() for flag, value in pairwise(words)):
        raise ConfigError("--out is an empty text: name a file or a folder, such as --out .")


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)


def _complain(text: str) -> None:
    Console(stderr=True).print(f"[bold red]ganinv:[/] {escape(text)}", soft_wrap=True, highlight=False)
