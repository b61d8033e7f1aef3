"""Networks compute what they did when ``tests/own_golden.json`` was recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ganinv.methods.registry import INVERTERS
from tests.generators.made import generator_files
from tests.own_golden import FILE, numbers, of_file, rendered

RECORDED: dict[str, Any] = json.loads(FILE.read_text())
GOLDEN: dict[str, Any] = RECORDED["networks"]
AGAIN = "if that is meant: python -m tests.own_golden, and a line in CHANGELOG.md"


def test_every_inverter_has_its_numbers() -> None:
    assert GOLDEN.keys() == {"generator", *INVERTERS}, "record what is new: python -m tests.own_golden"


def test_the_generator_and_its_discriminator() -> None:
    same(rendered(), GOLDEN["generator"])


@pytest.mark.parametrize("kind", [kind for kind in INVERTERS if kind in GOLDEN])
def test_an_inverter(kind: str) -> None:
    same(numbers(kind), GOLDEN[kind])


@pytest.mark.parametrize("name", RECORDED["files"])
def test_a_file_of_another_program(made: Path, name: str) -> None:
    (file,) = made.glob(f"*/{name}")
    same(of_file(file), RECORDED["files"][name])


def test_every_file_has_its_numbers(made: Path) -> None:
    assert RECORDED["files"].keys() == {file.name for file in generator_files(made)}, "python -m tests.own_golden"


def same(found: dict[str, list[float]], golden: dict[str, list[float]]) -> None:
    """To what other processors and versions of torch may differ by."""
    assert found.keys() == golden.keys()
    for name, values in golden.items():
        assert found[name] == pytest.approx(values, rel=2e-3, abs=2e-4), f"{name}: {AGAIN}"
        assert values[1] > 1e-3, f"{name} is all one value"
