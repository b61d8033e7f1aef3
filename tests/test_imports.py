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


@pytest.mark.seconds
def test_no_two_modules_need_each_other() -> None:
    known = modules()
    needs = {name: {m for m, _ in imported(path, known)} - {name} for name, path in known.items()}
    assert sum(len(others) for others in needs.values()) > 1000
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.seconds
def test_private_names_stay_in_their_module() -> None:
    known = modules()
    reached = [f"{n}: {m}.{x}" for n, path in known.items() for m, x in imported(path, known) if x.startswith("_")]
    assert not reached


def test_codes_of_rows_are_made_by_their_reader_alone() -> None:
    """Stored codes are read through ``CodeReader`` only, which keeps heads and the rules of edits."""
    kept = ROOT / "ganinv/records"
    users = [name for name, path in modules().items() if path.parent != kept and "table_to_code" in path.read_text()]
    assert users == []


@pytest.mark.seconds
def test_what_python_opened_is_not_read_by_threads_that_outlive_the_call() -> None:
    """They abort a process that ends soon: ``ganinv.store.tensors.parquet_table`` says why."""
    reads = {"read_row_group", "read_row_groups", "iter_batches"}
    users, found = set(), 0
    for name, path in modules().items():
        text = path.read_text()
        if "read_table" in text:
            users.add(name)
        assert text.count("read_csv(") == text.count("read_csv(arrow_file("), name
        if "ParquetFile(" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            of = ast.unparse(node.func.value)
            if node.func.attr in reads or (node.func.attr == "read" and (of == "parquet" or "ParquetFile(" in of)):
                found += 1
                assert "use_threads=False" in ast.unparse(node), f"{name}, line {node.lineno}"
    assert found >= 10
    # The one has a path, which Arrow opens itself; the other says why.
    assert users == {"ganinv.judges.glasses_fit", "ganinv.store.tensors"}


@pytest.mark.seconds
def test_workers_import_no_library_that_they_may_not_need() -> None:
    """Every worker of every step imports what ``invert`` does: scikit-learn, with SciPy and pandas behind it, was half of it."""
    known, slow = modules(), {"sklearn", "scipy", "pandas", "matplotlib"}
    seen, left = set[str](), ["tasks.steps.invert", "ganinv.judges.faces"]  # which looks at photos beside it
    while left:
        name = left.pop()
        if name in seen or name not in known:
            continue
        seen.add(name)
        for node in ast.parse(known[name].read_text()).body:  # not what functions import, nor what is for types alone
            if isinstance(node, ast.Import | ast.ImportFrom):
                of = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names = [".".join([*of, alias.name]) for alias in node.names]
                assert not slow.intersection(n.partition(".")[0] for n in names), (
                    f"{name} imports {names}: in a function"
                )
                left += [module for name_of in names for module in (name_of, *_above(name_of))]
    assert len(seen) > 100


def _above(name: str) -> Iterator[str]:
    """The packages that a module lies in: to import it runs them."""
    while name := name.rpartition(".")[0]:
        yield name
