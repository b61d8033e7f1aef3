"""What messages advise exists: every command and every option that a message of the product names.

That a hint, followed, works is shown beside what it is about; here none can name what is not there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.surface import commands

ROOT = Path(__file__).parents[2]
PROGRAMS = re.compile(r"(?:argparse|subprocess|<style|<svg)")
"""Modules that have options of their own, or ask other programs, or write style sheets: their dashes are no flags of ours."""
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*[a-z0-9](?![\w-])(?![:)])")
COMMAND = re.compile(r"(?:^|[\s'`(:])ganinv (?!extras|or )([a-z]+(?: [a-z]+)?)")
GROUPS = ("directions", "latents", "leaderboard")
OF_OTHERS = {("--all", "prefect deploy")}
"""An option, and the program whose it is."""


@cache
def flags() -> dict[str, set[str]]:
    """Command -> its flags."""
    found: dict[str, set[str]] = {}
    for entry in commands():
        words = entry.split()
        of = [word for word in words[1:] if re.fullmatch("[a-z-]+", word) and not word.startswith("-")]
        found.setdefault(" ".join(of), set()).update(
            flag for word in words for flag in word.split("|") if flag[:2] == "--"
        )
    return found


def messages() -> Iterator[tuple[str, str]]:
    """(where, text) of every text in the product that is no docstring; parts of one message that are put together are one."""
    for folder in ("ganinv", "tasks", "flows"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            source = path.read_text()
            if PROGRAMS.search(source):
                continue
            tree = ast.parse(source)
            parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
            for node in ast.walk(tree):
                for inner in ast.iter_child_nodes(node):
                    if isinstance(node, ast.Expr) or id(inner) in parts:
                        continue
                    if isinstance(inner, ast.JoinedStr):
                        texts = (part.value if isinstance(part, ast.Constant) else "{}" for part in inner.values)
                        yield f"{path.relative_to(ROOT)}:{inner.lineno}", "".join(map(str, texts))
                    elif isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                        yield f"{path.relative_to(ROOT)}:{inner.lineno}", inner.value


def wrong(text: str) -> str | None:
    """What a message names that is not there."""
    every = set().union(*flags().values())
    for option in OPTION.findall(text):
        if option not in every and not any(option == own and program in text for own, program in OF_OTHERS):
            return f"no command has {option}"
    named = list(COMMAND.findall(text))
    for words in named:
        first, *second = words.split()
        command = f"{first} {second[0]}" if first in GROUPS and second else first
        if command not in flags() and first not in GROUPS:
            return f"there is no ganinv {command}"
    if len(named) == 1 and named[0].split()[0] in flags():
        after = text.split(f"ganinv {named[0]}", 1)[1]
        after = re.split(r"[;.,:)]\s|\bor\b", after, maxsplit=1)[0]
        for option in OPTION.findall(after):
            if option not in flags()[named[0].split()[0]]:
                return f"ganinv {named[0].split()[0]} has no {option}"
    return None


def test_what_messages_name_is_there() -> None:
    found = [(where, text) for where, text in messages() if OPTION.search(text) or COMMAND.search(text)]
    assert len(found) > 60
    assert [(where, said) for where, text in found if (said := wrong(text))] == []


@pytest.mark.parametrize(
    "text",
    [
        "give --image-colum",
        "train it first: ganinv trian portraits-64-e4e",
        "measure again with: ganinv evaluate --store {} --image-column image",
    ],
)
def test_a_hint_that_leads_nowhere_is_found(text: str) -> None:
    assert wrong(text) is not None
