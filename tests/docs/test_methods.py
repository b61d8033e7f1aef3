"""The pages of docs/methods: one for each method, all in one form, and every check that code or tests name is on one."""

from __future__ import annotations

import ast
import os
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest

from ganinv.config import config_names
from ganinv.directions.fitting.registry import METHODS
from ganinv.methods.registry import INVERTERS

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs/methods"
NAMES = sorted(path.stem for path in PAGES.glob("*.md") if path.stem != "index")
CARD = re.compile(r"\bcards?\b", re.I)
SECTIONS = ["What it does", "Losses", "Where we differ", "Run it", "Asked", "Checks"]
CODE = sorted(
    Path(folder) / name
    for room in ("ganinv", "tasks", "flows", "benchmarks", "tests", "examples")
    for folder, _, names in os.walk(ROOT / room, followlinks=True)
    for name in names
    if name.endswith(".py")
)


def test_every_method_has_a_page_in_the_index() -> None:
    index = (PAGES / "index.md").read_text()
    rows = [(cells[1], cells[-2]) for line in index.splitlines() if len(cells := line.split("|")) >= 4]
    names = {name for row, page in rows if ".md)" in page for name in re.findall(r"`([^`]+)`", row)}
    missing = {*config_names("methods"), *INVERTERS, *METHODS} - names
    assert not missing, (
        f"write docs/methods/<name>.md for {missing}, after a page that is there, and a row of its index.md"
    )
    linked = {page for _, row in rows for page in re.findall(r"\]\((\S+)\.md\)", row)}
    assert linked == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_pages_have_one_form(name: str) -> None:
    text = (PAGES / f"{name}.md").read_text()
    assert re.findall(r"^## (.+)$", text, re.M) == SECTIONS
    assert "arxiv.org/abs/" in text.partition("## ")[0], "the paper is named at the top"
    for path in re.findall(r"`(\w+(?:/[\w-]+)+(?:\.\w+)?)`", text.partition("## ")[0]):
        assert (ROOT / path).exists(), f"{path} is named as its code"


@pytest.mark.parametrize("name", NAMES)
def test_checks_name_tests_that_are_there(name: str) -> None:
    for number, words in checks_of(name).items():
        named = re.findall(r"`(tests/\S+\.py)::(\w+)`", words)
        assert named, f"check {number} names no test"
        for file, test in named:
            assert test in functions(ROOT / file), f"check {number}: {file} has no {test}"


def test_every_check_that_is_named_stands_in_a_page() -> None:
    found = 0
    for path in CODE:
        for page, numbers in re.findall(
            r"docs/methods/([\w+-]+)\.md(?:, checks? (\d+(?:(?:, | and )\d+)*))?", path.read_text()
        ):
            assert page in (*NAMES, "x", "index"), f"{path} names docs/methods/{page}.md, which is not there"
            for number in map(int, re.findall(r"\d+", numbers)):
                assert number in checks_of(page), f"{path} names check {number} of {page}"
                found += 1
    assert found > 30


def test_nothing_refers_to_cards_that_are_not_here() -> None:
    """A card is the model card of weights: nothing else that bears the name is in the repository."""
    for path in CODE:
        if not CARD.search(path.read_text()):  # before it is taken apart, which takes a hundred times as long
            continue
        with path.open() as file:
            tokens = list(tokenize.generate_tokens(file.readline))
        words = [(t.start[0], t.string) for t in tokens if t.type in (tokenize.COMMENT, tokenize.STRING)]
        check_cards(path, [(n, re.sub(r"\{[^}]*\}", "", w)) for n, w in words if w.startswith("#") or " " in w])
    for path in [*(ROOT / "docs").rglob("*.md"), *(ROOT / "configs").rglob("*.yaml"), *ROOT.glob("*.md")]:
        check_cards(path, list(enumerate(path.read_text().splitlines(), 1)))


def check_cards(path: Path, lines: list[tuple[int, str]]) -> None:
    if path == Path(__file__):
        return
    for number, text in lines:
        for hit in CARD.finditer(text):
            before = re.sub(r"\s+", " ", text[: hit.start()])
            assert before.lower().endswith(("model ", "model_")), f"{path}:{number} refers to a card: {text}"


@cache
def checks_of(name: str) -> dict[int, str]:
    """Number -> words of each check of a page."""
    text = (PAGES / f"{name}.md").read_text().partition("\n## Checks\n")[2]
    parts = re.split(r"^(\d+)\. ", text, flags=re.M)[1:]
    numbers = list(map(int, parts[::2]))
    assert numbers == list(range(1, len(numbers) + 1)), f"{name}: checks are numbered from 1 on, each once"
    return dict(zip(numbers, parts[1::2], strict=True))


@cache
def functions(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
