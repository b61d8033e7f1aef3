"""The fingerprint of an inverter, and when it is computed again."""

from __future__ import annotations

import pytest
import torch

from ganinv.methods import base
from ganinv.methods.base import hashing_once
from ganinv.methods.psp import Psp
from tests.contracts.inverters import small_psp
from tests.tiny import tiny_generator


def test_weights_are_hashed_once_inside_and_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    g, hashed = tiny_generator(), []
    psp, real = Psp(small_psp(g), g), base.fingerprint_of
    monkeypatch.setattr(base, "fingerprint_of", lambda module: hashed.append(module) or real(module))
    plain = psp.fingerprint
    with hashing_once():
        assert [psp.fingerprint, psp.fingerprint] == [plain, plain]
    assert len(hashed) == 2
    with torch.no_grad():
        psp.latent_avg += 1
    assert psp.fingerprint != plain
