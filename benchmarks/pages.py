"""Pages that several benchmarks write to: each replaces its own part and keeps the others'."""

from __future__ import annotations

from pathlib import Path


def write_part(page: Path, name: str, text: str) -> None:
    """Replace the part ``name`` of a page of Markdown, or append it. Whatever stands outside it stays as it is.

    A part lies between two comments that readers do not see, ``<!-- name -->`` and ``<!-- end of name -->``.

    Raises:
        ValueError: the page has the first comment of the part without the second.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = (page.read_text() if page.is_file() else "").partition(begin)
    _, closed, after = rest.partition(end)
    if found and not closed:
        raise ValueError(f"{page} has {begin!r} without {end!r}: put it where the part ends, or remove both")
    if not found and before:
        before = before.rstrip("\n") + "\n\n"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after or chr(10)}")
