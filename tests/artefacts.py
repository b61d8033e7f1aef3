"""What is expensive to make and the same for many tests: made once for all processes of a test run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first test to need it makes, while the others wait. Tests read it and leave it as it is.

    Args:
        make: fills the folder at the path it is given, which does not exist yet.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each process has a folder of its own in that of the run
        root = root.parent
    folder = root / f"shared-{name}"
    with FileLock(root / f"shared-{name}.lock"):
        if not folder.exists():
            partial = root / f"shared-{name}.part-{os.getpid()}"
            make(partial)
            partial.rename(folder)
    return folder
