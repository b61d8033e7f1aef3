"""Every direction method of the registry does what all promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganinv.directions.fitting.registry import METHODS
from tests.contracts.directions import CHECKS, World


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", METHODS)
def test_direction_method(name: str, check: str, world: World, tmp_path: Path) -> None:
    CHECKS[check](name, world, tmp_path)
