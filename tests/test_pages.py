"""Pages that benchmarks write: several to one, and what that on directions says."""

from __future__ import annotations

import json
import subprocess
import sys
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


@pytest.mark.seconds
def test_the_pages_are_made_of_the_numbers(tmp_path: Path) -> None:
    write_pages(NUMBERS, tmp_path)
    there = (ROOT / "docs/leaderboard/directions.md").read_text()
    assert (tmp_path / "directions.md").read_text() == there, "python -m benchmarks.directions.run write"
    assert (tmp_path / "pictures/directions-responses.png").stat().st_size > 20_000


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_bars_hold(tmp_path: Path) -> None:
    """Measured here on fewer samples than the page has: edits of age, smile and yaw are monotone on 80 % of fresh samples, and a
    condition takes away half of the side effect it names or more. A page is made of what was measured, without the rest."""
    numbers, parts = tmp_path / "numbers", ("fit-published", "fit-ridge", "samples", "effects", "conditions")
    command = [sys.executable, "-m", "benchmarks.directions.run", "measure", "--samples=2000", "--fresh=40"]
    command += [f"--store={tmp_path / 'store'}", f"--numbers={numbers}", "--only", *parts]
    subprocess.run(command, cwd=ROOT, check=True, timeout=2400)
    found = {path.stem: json.loads(path.read_text()) for path in numbers.glob("*.json")}
    assert found.keys() == set(parts)
    assert len(found["effects"]["published"]) == 5
    for name, effect in found["effects"]["published"].items():
        # Below zero, the score of a face without glasses stays where it is, and gender's is near its end for most samples.
        assert effect["monotone"] >= {"glasses": 0.4, "gender": 0.5}.get(name, 0.8), name
    judged = 0
    for fit, held in found["conditions"].items():
        for name, condition in held.items():
            before, after = (abs(condition[way][condition["held"]]) for way in ("without", "gradient"))
            if before >= 0.15:  # in sd per sd: on so few images, less is chance
                assert after <= 0.5 * before, (fit, name)
                judged += 1
    assert judged >= 5
    write_pages(numbers, tmp_path / "docs")
    page = (tmp_path / "docs/directions.md").read_text()
    assert "## In short" in page
    assert all(f"| {name} |" in page for name in found["effects"]["published"])
    assert "## Conditional directions" in page
    assert "## DCI" not in page


def test_the_leaderboard_of_the_docs_has_every_method_once() -> None:
    """Those that take steps for each image are judged on fewer images."""
    from benchmarks.leaderboard import tiers
    from ganinv.config import config_names
    from ganinv.stages.method import method_config

    found = tiers([], 32, 12, 8)
    named = [name for methods in found.values() for name in methods]
    assert len(named) == len(set(named))
    of_frames = {name for name in config_names("methods") if method_config(name).of_frames}
    assert of_frames == {"pti-video"}
    assert {name for name in named if "/" not in name} == set(config_names("methods")) - of_frames
    assert [Path(name).stem for name in named if "/" in name] == ["copy", "mean"]
    assert {"e4e", "hyperstyle"} <= set(found[32])
    assert {"pti", "sfe-refined"} <= set(found[12])
    assert {"image2stylegan", "chunkygan"} <= set(found[8])
    assert tiers(["pti"], 4, 2, 1) == {4: [], 2: ["pti"], 1: []}
