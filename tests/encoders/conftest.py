"""Fixtures of the encoders' tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture
def encoders(shared: Path) -> Path:
    """Recordings of published encoders."""
    return shared / "golden" / "encoders"


@pytest.fixture
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield
