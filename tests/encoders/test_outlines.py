"""Published files have the names and shapes that ``tests.encoders.outlines`` makes of our networks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.encoders.outlines import CASES, digest, outline, recorded_shapes
from tests.own_golden import FILE

RECORDED: dict[str, str] = json.loads(FILE.read_text())["outlines"]


@pytest.mark.parametrize("case", CASES)
def test_names_and_shapes_are_the_published_ones(case: str) -> None:
    """The digests were recorded when they were equal to those of the recordings."""
    shapes = {name: tuple(tensor.shape) for name, tensor in outline(case)["state_dict"].items()}
    assert digest(shapes) == RECORDED.get(case), "compare with the recordings and record it: python -m tests.own_golden"


def test_the_recordings_have_them(shared: Path) -> None:
    assert {case: digest(recorded_shapes(shared / "golden", case)) for case in RECORDED} == RECORDED
