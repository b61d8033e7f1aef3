"""Images for tests of steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganinv.data.demo import demo_dataset


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four real faces."""
    source = demo_dataset(tmp_path_factory.mktemp("demo"))
    folder = tmp_path_factory.mktemp("faces")
    for path in sorted(source.rglob("*.png"))[:4]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder
