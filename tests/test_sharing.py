"""Tests that need Ray, or Prefect, run in one process of ``pytest -n``."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("xdist")
ROOT = Path(__file__).parents[1]
CONFTEST = """
import pytest

pytest_plugins = ["tests.sharing"]

@pytest.fixture(scope="session")
def local_prefect():
    yield
"""
FILE = """
import time

def test_alone():
    time.sleep(0.2)

def test_with_a_server(local_prefect):
    time.sleep(0.2)
"""


@pytest.mark.seconds
def test_files_with_a_service_share_a_process(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  seconds: x\n  slow: x\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/conftest.py").write_text(CONFTEST)
    for name in "abcd":
        text = FILE if name != "d" else FILE.replace("local_prefect", "")
        (tmp_path / f"tests/test_{name}.py").write_text(text)
    plain = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n3", "--dist=loadgroup", "-v", "-p", "no:cacheprovider", "tests"],
        cwd=tmp_path,
        env={**plain, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.findall(r"\[(gw\d)\].* PASSED tests/test_(\w)\.py", done.stdout)
    assert len(found) == 8, done.stdout
    workers = {name: {worker for worker, of in found if of == name} for name in "abcd"}
    assert len(workers["a"] | workers["b"] | workers["c"]) == 1
    assert len(workers["d"]) == 1


def test_a_thread_may_make_loggers_while_pytest_goes_through_them() -> None:
    for number, _ in enumerate(logging.Logger.manager.loggerDict.values()):
        logging.getLogger(f"ganinv.made.meanwhile.{number}")
        if number:
            break
