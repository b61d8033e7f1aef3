"""Which code this is: the version of the package, with the commit where it is known."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_SECONDS = 20


@cache
def code_version() -> str:
    """What rows, plans and weight folders say about the code that made them, such as ``0.2.0.dev12+g1d5c3a6``.

    A package that was built names the commit that it was built from. A checkout may be at another commit by now than when it was
    installed, so there git is asked: its commit replaces the one of the build, and ``.dirty`` says that files differ from it.
    Without git it is the version as installed, and ``unknown`` where nothing is installed.
    """
    try:
        built = version("ganinv")
    except PackageNotFoundError:
        built = "unknown"
    checkout = Path(__file__).parents[1]
    commit = commit_of(checkout) if (checkout / ".git").exists() else None
    return built if commit is None else with_commit(built, commit)


def commit_of(checkout: Path) -> str | None:
    """``g`` and the short commit of a checkout, with ``.dirty`` where tracked files differ; None where git does not tell."""
    try:
        done = subprocess.run(
            ["git", "-C", checkout, "describe", "--always", "--dirty=.dirty", "--exclude=*", "--abbrev=9"],
            capture_output=True, text=True, timeout=_SECONDS, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return f"g{done.stdout.strip()}"


def with_commit(built: str, commit: str) -> str:
    """A version with this commit in place of the one that it was built from."""
    return f"{re.sub(r'[+].*', '', built)}+{commit}"
