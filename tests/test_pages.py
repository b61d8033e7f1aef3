"""Pages that several benchmarks write to."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.pages import write_part


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
