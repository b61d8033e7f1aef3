"""One store of every kind of file system."""

from __future__ import annotations

import pytest

from ganinv.store import Store, open_store


@pytest.fixture
def store(place: tuple[str, dict[str, str]]) -> Store:
    url, options = place
    return open_store(url, **options)
