"""The guides of CONTRIBUTING.md, carried out as they stand: files are written, lines are added, commands are run.

Each is done on a repository of its own that is made of links to this one: what a guide writes to is a copy.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "CONTRIBUTING.md"
LEFT_OUT = {".git", ".venv", "runs", "site"}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that it is for, and its lines."""

    language: str
    file: str
    text: str


def guides() -> dict[str, list[Block]]:
    """Heading -> the blocks below it, of the headings that have files to write."""
    found: dict[str, list[Block]] = {}
    heading, opening, inside = "", None, ""
    for line in GUIDE.read_text().splitlines(keepends=True):
        if opening is not None and line == "```\n":
            found[heading].append(Block(opening[1], opening[2] or "", inside))
            opening = None
        elif opening is not None:
            inside += line
        elif line.startswith("## "):
            heading = line[3:].strip()
        elif opening := re.fullmatch(r'```(\w+)(?: title="([^"]+)")?\n', line):
            found.setdefault(heading, [])
            inside = ""
    return {heading: blocks for heading, blocks in found.items() if any(block.file for block in blocks)}


def test_the_guides_are_there() -> None:
    assert list(guides()) == ["Add a method", "Add a dialect of weights", "Add a direction method", "Add a data source"]
    for heading, blocks in guides().items():
        assert blocks[-1].language == "sh", f"{heading} ends with a test that is green"


@pytest.mark.slow
@pytest.mark.timeout(1800)  # half a minute where the cores are not shared
@pytest.mark.parametrize("heading", guides())
def test_a_guide_ends_green(heading: str, tmp_path: Path) -> None:
    link_folder(ROOT, tmp_path)
    for block in guides()[heading]:
        if block.language == "diff":
            place = own(tmp_path, block.file)
            place.write_text(patched(place.read_text(), block))
        elif block.file:
            place = own(tmp_path, block.file)
            assert not place.exists(), f"{block.file} is there already"
            place.write_text(block.text)
        elif block.language == "sh":
            run(block.text, tmp_path)
    assert not [path for path in ROOT.rglob("*thumbnail*.py") if ".git" not in path.parts], "written through a link"


def link_folder(source: Path, place: Path) -> None:
    """A real folder whose entries are links to those of ``source``."""
    place.mkdir(exist_ok=True)
    for entry in source.iterdir():
        if entry.name not in LEFT_OUT and not entry.name.endswith(("cache", "__pycache__")):
            (place / entry.name).symlink_to(entry)


def own(root: Path, name: str) -> Path:
    """The path of a file that can be written to: folders above it and the file itself are not links."""
    place = root
    for part in Path(name).parts[:-1]:
        place = place / part
        if place.is_symlink():
            source = place.resolve()
            place.unlink()
            link_folder(source, place)
    place = place / Path(name).name
    if place.is_symlink():
        source = place.resolve()
        place.unlink()
        shutil.copy(source, place)
    return place


def patched(text: str, block: Block) -> str:
    """The text with a block's lines: those with ``-`` go, those with ``+`` come, the others say where."""
    lines = block.text.splitlines()
    before = "\n".join(line[1:] for line in lines if line[:1] != "+") + "\n"
    after = "\n".join(line[1:] for line in lines if line[:1] != "-") + "\n"
    assert text.count(before) == 1, f"{block.file} has not once: {before!r}"
    return text.replace(before, after)


def run(command: str, root: Path) -> None:
    words = shlex.split(command)
    assert words[0] == ".venv/bin/python"
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    environment = {**plain, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *words[1:], "-p", "no:cacheprovider"],
        cwd=root, env=environment, capture_output=True, text=True, timeout=1700,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}"
    assert re.search(r"\d+ passed", done.stdout), done.stdout
