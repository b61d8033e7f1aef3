"""What goes wrong with images in practice."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def bad_faces(faces: Path, tmp_path: Path) -> Path:
    """Two good faces, one truncated, one that is a web page."""
    folder = tmp_path / "images"
    folder.mkdir()
    good = sorted(faces.iterdir())
    for path in good[:2]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "truncated.png").write_bytes(good[2].read_bytes()[:2000])
    (folder / "page.jpg").write_bytes(b"<html><body>Too many requests</body></html>")
    return folder
