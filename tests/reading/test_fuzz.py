"""A short run of the fuzzer; ``make fuzz`` runs it for minutes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SECONDS = 3


@pytest.mark.seconds
def test_nothing_that_a_file_holds_crashes_hangs_or_acts(tmp_path: Path) -> None:
    shared = os.environ.get("GANINV_SHARED") or str(REPOSITORY.parent / "shared")
    command = [sys.executable, "-m", "tests.reading.fuzz", "--seconds", str(SECONDS), "--shared", shared]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GANINV_CACHE": str(tmp_path)}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    count = re.search(r"(\d+) files read, nothing found", done.stdout)
    assert count is not None
    assert int(count[1]) >= 10
    assert not list(tmp_path.iterdir())
