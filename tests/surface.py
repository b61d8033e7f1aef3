"""The public surface: names of ``import ganinv``, commands with their flags, and extras. ``make surface`` writes it again.

It is in ``tests/surface.txt``, one entry a line, so that a change of what others rely on is a line of a commit.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("surface.txt")
ROOT = Path(__file__).parents[1]


def surface() -> list[str]:
    """All entries, sorted within their kind."""
    import ganinv

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [
        *sorted(f"ganinv.{name}" for name in ganinv.__all__),
        *sorted(commands()),
        *sorted(f"extra {name}" for name in project["optional-dependencies"]),
    ]


def commands() -> Iterator[str]:
    """``ganinv edit --edit TEXT``: each command, and each of its flags and arguments."""
    from flows.cli import whole_command

    yield from _of(whole_command(), "ganinv")


def _of(command: Any, words: str) -> Iterator[str]:
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from _of(inner, f"{words} {name}")
        return
    yield words
    context = command.make_context("ganinv", [], resilient_parsing=True)
    for parameter in context.command.get_params(context):  # a step has its flags when it is called
        if parameter.name != "help":
            flags = [*parameter.opts, *parameter.secondary_opts]
            yield f"{words} {'|'.join(flags) if flags[0].startswith('-') else flags[0].upper()}"


def main() -> None:
    entries = surface()
    FILE.write_text("\n".join(entries) + "\n")
    print(f"{FILE}: {len(entries)} entries")


if __name__ == "__main__":
    main()
