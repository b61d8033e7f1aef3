"""The benchmark of two commits, on the commit that is checked out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.inversion.commits import ROOT, Side, checkout, same
from ganinv.errors import ConfigError

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a checkout of git")


def test_an_unknown_commit_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'no-such-commit'"), checkout("no-such-commit", tmp_path / "tree"):
        pass


@pytest.mark.seconds
def test_a_tree_without_the_project_is_told(tmp_path: Path) -> None:
    with Side(tmp_path, {}, tmp_path / "found") as side, pytest.raises(ConfigError, match="not from"):
        same(side, side)


@pytest.mark.slow
def test_a_method_is_as_close_as_at_its_own_commit() -> None:
    command = [sys.executable, "-m", "benchmarks.inversion.commits", "e4e", "--before", "HEAD", "--samples"]
    command += ["--images", "2", "--rounds", "1"]
    worktrees = said(["git", "worktree", "list"])
    line = said(command).splitlines()[-1]
    assert "x as fast" in line
    assert "(1.000 x), mse" in line
    assert said(["git", "worktree", "list"]) == worktrees


def said(command: list[str]) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
