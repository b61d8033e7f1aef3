"""How modules may know each other, beyond what import-linter holds: no circles, and no private names of others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("ganinv", "tasks", "flows", "benchmarks")


def modules() -> dict[str, Path]:
    """Module name -> file."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            found[name] = path
    return found


@cache
def imports_of(path: Path) -> tuple[ast.ImportFrom, ...]:
    """The ``from ... import ...`` of modules of ours."""
    nodes = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom))
    return tuple(node for node in nodes if node.module and node.module.split(".")[0] in PACKAGES)


def imported(path: Path, known: dict[str, Path]) -> Iterator[tuple[str, str]]:
    """(module, name) of every import of a module of ours, those for types alone and those inside functions as well."""
    for node in imports_of(path):
        if node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner, "") if inner in known else (node.module, alias.name)


def test_no_two_modules_need_each_other() -> None:
    known = modules()
    needs = {name: {m for m, _ in imported(path, known)} - {name} for name, path in known.items()}
    assert sum(len(others) for others in needs.values()) > 1000
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_private_names_stay_in_their_module() -> None:
    known = modules()
    reached = [f"{n}: {m}.{x}" for n, path in known.items() for m, x in imported(path, known) if x.startswith("_")]
    assert not reached


def test_codes_of_rows_are_made_by_their_reader_alone() -> None:
    """Stored codes are read through ``CodeReader`` only, which keeps heads and the rules of edits."""
    kept = ROOT / "ganinv/records"
    users = [name for name, path in modules().items() if path.parent != kept and "table_to_code" in path.read_text()]
    assert users == []
