"""``make audit`` does not take silence for good news."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

tell = runpy.run_path(str(Path(__file__).parents[2] / "deploy/audit.py"))["tell"]

GOOD = {"name": "good", "version": "1.0", "vulns": []}
BAD = {"name": "bad", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}
UNKNOWN = {"name": "mystery", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([GOOD], 0, "0 known vulnerabilities in 1 packages"),
        ([GOOD, BAD], 1, "bad 1.0: PYSEC-1, mended in 1.1"),
        ([GOOD, UNKNOWN], 2, "not audited: the index knows nothing of 1 packages, such as mystery"),
        ([UNKNOWN, BAD], 1, "PYSEC-1"),
    ],
)
def test_exit_codes(packages: list[Any], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert tell({"dependencies": packages}) == code
    assert said in capsys.readouterr().out
