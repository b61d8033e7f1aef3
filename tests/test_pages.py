"""Pages that benchmarks write: several to one, and what that on directions says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.directions.page import write_pages
from benchmarks.pages import write_part

ROOT = Path(__file__).parents[1]
NUMBERS = ROOT / "benchmarks/results/directions"


def test_parts_of_a_page_keep_each_other(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "results.md"
    write_part(page, "portraits", "## Portraits\n\none\n")
    write_part(page, "directions", "## Directions\n\n![x](x.png)\n")
    both = page.read_text()
    assert both.index("one") < both.index("x.png")
    for _ in range(2):  # in any order, and again
        write_part(page, "directions", "## Directions\n\n![x](x.png)")
        write_part(page, "portraits", "## Portraits\n\none")
    assert page.read_text() == both
    page.write_text("# Results\n\nBy hand.\n\n" + both + "\nThe end.\n")
    write_part(page, "portraits", "two")
    text = page.read_text()
    assert text.startswith("# Results\n\nBy hand.\n\n<!-- portraits -->\n\ntwo\n")
    assert text.endswith("<!-- end of directions -->\n\nThe end.\n")
    assert "one" not in text
    page.write_text("<!-- portraits -->\n")
    with pytest.raises(ValueError, match="without '<!-- end of portraits -->'"):
        write_part(page, "portraits", "three")


def test_the_pages_are_made_of_the_numbers(tmp_path: Path) -> None:
    (tmp_path / "results.md").write_text((ROOT / "docs/results.md").read_text())
    write_pages(NUMBERS, tmp_path)
    for page in ("results-directions.md", "results.md"):
        assert (tmp_path / page).read_text() == (ROOT / "docs" / page).read_text(), f"write docs/{page} again"
    assert (tmp_path / "pictures/directions-responses.png").stat().st_size > 20_000


def test_the_bars_hold_in_the_numbers() -> None:
    """Issue 5: monotone on 80 % of 500 fresh samples; a condition takes away half of the side effect it names or more."""
    numbers = {path.stem: json.loads(path.read_text()) for path in NUMBERS.glob("*.json")}
    assert numbers["samples"]["samples"] == 20_000
    assert numbers["effects"]["fresh"] == 500
    assert len(numbers["effects"]["published"]) == 5
    assert all(found["monotone"] >= 0.8 for found in numbers["effects"]["published"].values())
    for fit in numbers["conditions"].values():
        for found in fit.values():
            held = found["held"]
            assert abs(found["gradient"][held]) <= 0.5 * abs(found["without"][held])
