"""Every message that names a command or an option names one that there is; what the important ones advise is followed elsewhere
(test_exit_codes.py, test_latents_of_other_programs.py, test_address.py, tasks/test_other_generators.py,
tasks/test_framing.py)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows import cli

ROOT = Path(cli.__file__).parents[2]
GAP = "\0"
"""In place of what a message fills in."""
OTHERS = {
    "--all",
    "--no-deps",
    "--query-gpu",
    "--format",
    "--head",
    "--address",
    "--always",
    "--dirty",
    "--exclude",
    "--abbrev",
}
"""Options of other programs that messages and calls name."""
WORDS = re.compile(r"ganinv ((?:[a-z][a-z-]+)(?: [a-z][a-z-]+)?)")
OPTION = re.compile(r"(?<![\w-])(?<!var\()(--[a-z][a-z-]*[a-z])\b(?!-)")


def commands() -> dict[str, set[str]]:
    """``latents import`` -> its options, of every command; of a group: none."""
    found: dict[str, set[str]] = {}

    def walk(command: Any, path: tuple[str, ...]) -> None:
        if path:
            late = getattr(command.callback, "step", None)  # flags of models are made when a command is called
            whole = command if late is None else late.command()
            options = {name for p in whole.params for name in (*p.opts, *p.secondary_opts) if name.startswith("--")}
            found[" ".join(path)] = options | {"--help"}
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, (*path, name))

    walk(cli.whole_command(), ())
    return found


def messages() -> Iterator[tuple[str, str]]:
    """(place, text) of every string of the three packages that is not a docstring, f-strings with gaps."""
    for path in sorted(p for part in ("ganinv", "tasks", "flows") for p in (ROOT / part).rglob("*.py")):
        source = path.read_text()
        if "argparse" in source or path.name == "figure.py":  # options of its own; CSS
            continue
        if "ganinv " not in source and "--" not in source:  # what is looked for
            continue
        tree = ast.parse(source)
        nodes = list(ast.walk(tree))
        skipped = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        skipped |= {id(v) for node in nodes if isinstance(node, ast.JoinedStr) for v in node.values}
        for node in nodes:
            if id(node) in skipped:
                continue
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(v.value) if isinstance(v, ast.Constant) else GAP for v in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            else:
                continue
            yield f"{path.relative_to(ROOT)}:{node.lineno}", text


KNOWN = commands()
NAMED = [(place, text) for place, text in messages() if "ganinv " in text or OPTION.search(text)]


def named_command(words: str) -> str | None:
    """The command that some words begin with."""
    first, _, second = words.partition(" ")
    if second and f"{first} {second}" in KNOWN:
        return f"{first} {second}"
    return first if first in KNOWN else None


def test_the_commands_are_all_there() -> None:
    assert {"invert", "latents import", "directions import", "runs"} <= KNOWN.keys()
    assert {"--store", "--allow-failed", "--class-column"} <= KNOWN["invert"]
    assert len(NAMED) > 30


@pytest.mark.parametrize(("place", "text"), NAMED, ids=[place for place, _ in NAMED])
def test_what_a_message_names_there_is(place: str, text: str) -> None:
    found = [match for match in WORDS.finditer(text) if not text[: match.start()].endswith(("'", "of "))]
    ours = [(m.start(), named_command(m[1])) for m in found if m[1].split()[0] not in PROSE]
    for start, command in ours:
        assert command is not None, f"{place}: there is no command {text[start : start + 40]!r}"
    everywhere = set().union(*KNOWN.values())
    for option in OPTION.finditer(text):
        if option[1] in OTHERS:
            continue
        assert option[1] in everywhere, f"{place}: no command has an option {option[1]}"
        before = [command for start, command in ours if start < option.start()]
        if before and before[-1] is not None and "--" in text[: option.end()] and len(ours) == 1:
            assert option[1] in KNOWN[before[-1]], f"{place}: ganinv {before[-1]} has no option {option[1]}"


PROSE = {
    *(
        "extras",
        "and",
        "has",
        "is",
        "does",
        "itself",
        "on",
        "cannot",
        "needs",
        "reads",
        "here",
        "writes",
        "finds",
        "as",
    ),
    "that",
    "or",
}
"""Words after the project's name in sentences about it."""


@pytest.mark.seconds
def test_no_message_names_a_keyword_of_python_in_place_of_an_option() -> None:
    """``image_column=`` is ``--image-column`` for a reader at a terminal."""
    fields = {"image_column", "id_column", "class_column", "where", "limit"}
    wrong = [
        (place, text) for place, text in messages() if any(re.search(rf"\b{f}=(?!\{GAP}|=)", text) for f in fields)
    ]
    assert wrong == []
