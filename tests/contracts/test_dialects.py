"""Every dialect of generator files does what all promise."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ganinv.generators.formats.write import write_rosinality
from ganinv.generators.stylegan2 import Generator
from tests.contracts.dialects import CHECKS, State
from tests.generators.test_formats_other import genforce_state


def rosinality_state(g: Generator) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(io.BytesIO(write_rosinality(g, False, {})), weights_only=True)["g_ema"]
    return found


DIALECTS: Mapping[str, State] = {
    "rosinality": rosinality_state,
    "genforce": lambda g: genforce_state(g, hammer=False),
    "hammer": lambda g: genforce_state(g, hammer=True),
}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("layout", DIALECTS)
def test_dialect(layout: str, check: str, tmp_path: Path) -> None:
    CHECKS[check](DIALECTS[layout], layout, tmp_path)
