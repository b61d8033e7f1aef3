"""The command line, run in this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.flows.test_cli import run_here

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """``run(*arguments)``: exit code, output and errors of ``ganinv``."""
    return lambda *arguments: run_here(monkeypatch, capsys, *map(str, arguments))
