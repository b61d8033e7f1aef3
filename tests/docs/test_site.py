"""The site builds strictly: no warning, no page without a place, no reference to what is not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the site needs the extra docs: pip install 'ganinv[docs]'")
    pytest.importorskip("mkdocstrings_handlers.python", reason="the site needs the extra docs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, timeout=500, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert "WARNING" not in done.stderr
    page = (tmp_path / "site/api/methods/index.html").read_text()
    assert "refine" in page, "the API is there"
    home = (tmp_path / "site/index.html").read_text()
    assert 'href="methods/' in home, "links of the README lead into the site"
    assert "own-photos" in home
