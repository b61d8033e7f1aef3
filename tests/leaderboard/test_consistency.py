"""Latent editing consistency, of latents that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ganinv.errors import DataError
from ganinv.leaderboard.consistency import consistency


def test_who_finds_an_edit_has_0_and_who_is_blind_has_1() -> None:
    rng = torch.Generator().manual_seed(0)
    w, noise = torch.randn(2, 3, 5, 8, generator=rng)
    step = torch.zeros(3, 5, 8)
    step[:, 2, 4] = 2.0
    finds, blind = consistency(w, w + step, w, step), consistency(w, w, w, step)
    np.testing.assert_allclose(finds["lec"], 0, atol=1e-6)
    np.testing.assert_allclose(finds["found"], 1, atol=1e-6)
    np.testing.assert_allclose(blind["lec"], 1)
    np.testing.assert_allclose(blind["found"], 0)
    noise[:, 2, 4] = 0.0  # across the edit: it is farther away, and found all the same
    noise /= noise.flatten(1).norm(dim=1)[:, None, None]
    lossy = consistency(w, w + step + noise, w + noise, step)
    np.testing.assert_allclose(lossy["lec"], 0.5, atol=1e-6)  # in lengths of the edit, which is 2
    np.testing.assert_allclose(lossy["cycle"], 0.5, atol=1e-6)
    np.testing.assert_allclose(lossy["found"], 1, atol=1e-6)


def test_what_has_no_consistency_is_refused() -> None:
    w = torch.zeros(2, 5, 8)
    with pytest.raises(DataError, match="an edit of no length"):
        consistency(w, w, w, w)
    with pytest.raises(DataError, match="of one shape"):
        consistency(w, w[:1], w, w + 1)
