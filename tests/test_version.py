"""The version names the commit."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ganinv.version import code_version, commit_of, with_commit

ROOT = Path(__file__).parents[1]


def test_a_checkout_names_its_commit_whatever_was_installed() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout: the commit is the one that the package was built from")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    commit = code_version().partition("+g")[2].removesuffix(".dirty")
    assert len(commit) >= 7
    assert head.startswith(commit)


def test_a_changed_file_is_said(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", tmp_path, *identity, *words], check=True, capture_output=True)

    git("init")
    (tmp_path / "a").write_text("1")
    assert commit_of(tmp_path) is None  # nothing is committed
    git("add", "a")
    git("commit", "-m", "a")
    clean = commit_of(tmp_path)
    assert clean is not None
    assert clean.startswith("g")
    (tmp_path / "a").write_text("2")
    assert commit_of(tmp_path) == f"{clean}.dirty"


@pytest.mark.parametrize("built", ["0.2.0.dev12", "0.2.0.dev12+g0123456", "0.2.0.dev12+g0123456.d20260101"])
def test_the_commit_replaces_that_of_the_build(built: str) -> None:
    assert with_commit(built, "gabc.dirty") == "0.2.0.dev12+gabc.dirty"


def test_without_git_the_version_is_that_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit_of(ROOT) is None
