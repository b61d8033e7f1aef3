"""Images for tests of steps."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def faces(demo_pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four real faces."""
    folder = tmp_path_factory.mktemp("faces")
    for path in sorted(demo_pictures.rglob("*.png"))[:4]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder
