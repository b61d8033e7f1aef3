"""What README and docs tell people to type is there: commands, flags, files, links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from flows.cli import whole_command

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").glob("*.md")])
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


def commands(page: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, words) of each ganinv command in the page's blocks of shell, and in those that are indented."""
    text, language = page.read_text().splitlines(), ""
    joined: list[tuple[int, str]] = []
    for number, line in enumerate(text, 1):
        if fence := re.match(r"\s*```(\w*)", line):
            language = "" if language else fence[1] or "text"
        elif language in ("sh", "bash", "console") or (not language and line.startswith("    ganinv ")):
            if joined and joined[-1][1].endswith("\\"):
                joined[-1] = (joined[-1][0], joined[-1][1][:-1] + line)
            else:
                joined.append((number, line))
    for number, line in joined:
        words = shlex.split(line, comments=True)
        if words[:1] == ["ganinv"]:
            yield number, words[1:]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_are_there_with_their_flags(page: Path) -> None:
    for number, words in commands(page):
        if error := misread(words):
            raise AssertionError(f"{page.name}:{number}: ganinv {shlex.join(words)}: {error!r}")


@pytest.mark.parametrize("words", ["inverted", "invert --store a --nonsense 1", "invert", "latents imports x"])
def test_a_wrong_command_is_found(words: str) -> None:
    assert misread(words.split()) is not None


def misread(words: list[str]) -> BaseException | None:
    """What the command line has against these words; nothing runs."""
    command, rest = whole_command(), list(words)
    try:
        while hasattr(command, "commands"):
            command, rest = command.commands[rest[0]], rest[1:]
        command.make_context("ganinv", rest)
    except (Exception, SystemExit) as error:
        return error
    return None


@pytest.mark.seconds
def test_the_snippet_of_the_api_runs() -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/api/index.md").read_text(), flags=re.S)
    found: dict[str, Any] = {}
    exec(snippet, found)
    assert found["inversion"].error == [None] * 4


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+://|mailto:", target):
            continue
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        assert place.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(place), f"{page.name} links to {target}"


def anchors(page: Path) -> set[str]:
    """Of the page's headings, as GitHub and mkdocs make them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def test_commands_of_all_pages_can_be_typed_one_after_the_other() -> None:
    """No two of them want other images, or other edits, under one name of one store, which the second would be refused for."""
    seen: dict[tuple[str, ...], tuple[str, list[str]]] = {}
    for page in (ROOT / "README.md", ROOT / "docs/photos.md", *sorted((ROOT / "docs/tutorials").glob("*.md"))):
        for number, words in commands(page):
            if words[0] not in ("invert", "edit") or "--dry-run" in words:
                continue
            flags = list(pairwise(words))
            own = dict(flags)
            store, named = own.get("--store", ""), own.get("--name")
            if words[0] == "invert":
                key, what = ("latents", store, named or own["--method"]), [own["--dataset"], own.get("--generator", "")]
            else:
                edits = [value for flag, value in flags if flag in ("--edit", "--reference", "--condition")]
                key, what = ("edits", store, named or "edits"), [own["--latents"], *edits]
            place = f"{page.name}:{number}"
            other, before = seen.setdefault(key, (place, what))
            assert before == what, f"{place} and {other} cannot both be run: give one of them another --name"
