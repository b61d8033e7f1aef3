"""Latent editing consistency in a linear world, and as the original recorded it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ganinv.directions.direction import Direction
from ganinv.errors import ConfigError, DataError
from ganinv.metrics import EditingConsistency, editing_consistency
from ganinv.metrics.lec import within_percentiles

TOY = {"space": "w", "generator_name": "toy", "generator_fingerprint": "0" * 64, "method": "test"}


def direction(vector: np.ndarray, **more: object) -> Direction:
    return Direction(name="age", vector=vector, **{**TOY, **more})  # type: ignore[arg-type]


def test_a_linear_world() -> None:
    """docs/methods/editing-evaluation.md, check 2: 0 for a perfect encoder, else what it adds to every code."""
    images = torch.randn(20, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    residual = torch.zeros(3, 8)
    residual[1, 2] = 0.25

    def perfect(x: Tensor) -> Tensor:
        return x.reshape(len(x), 3, 8)

    def decode(w: Tensor) -> Tensor:
        return w.reshape(len(w), 3, 2, 4)

    age = direction(np.ones(8) / 8**0.5)
    found = editing_consistency(images, perfect, decode, age, 3.0, batch_size=7)
    assert found.distances.shape == (20,)
    assert found.distances.max() < 1e-5
    off = editing_consistency(images, lambda x: perfect(x) + residual, decode, age, 3.0)
    np.testing.assert_allclose(off.distances, 0.25, atol=1e-5)
    with pytest.raises(ConfigError, match=r"'age' is absolute.*cannot be undone"):
        editing_consistency(images, perfect, decode, direction(np.ones(8), mode="absolute"), 3.0)
    with pytest.raises(DataError, match="at least one image"):
        editing_consistency(images[:0], perfect, decode, age, 3.0)


def test_the_released_number_is_of_batch_means() -> None:
    """docs/methods/editing-evaluation.md, check 5: 17 images make two batches; the last image is left out."""
    table = EditingConsistency(np.arange(17.0))
    assert table.mean == 8.0
    assert table.released() == (3.5 + 11.5) / 2
    many = EditingConsistency(np.concatenate([[0.0], np.full(298, 1.0), [100.0]]))
    assert many.released(1) == 1.0  # what lies outside the percentiles does not count
    with pytest.raises(DataError, match="do not fill a batch of 18"):
        table.released(18)


def test_golden(shared: Path) -> None:
    golden = np.load(shared / "golden/editing/lec.npz")
    kept = within_percentiles(golden["distances"])
    np.testing.assert_array_equal(kept, golden["kept"])
    assert kept.mean() == pytest.approx(float(golden["kept_mean"]), abs=1e-6)
    encoder, decoder, mean = (torch.tensor(golden[f"toy_{key}"]) for key in ("encoder", "decoder", "latent_avg"))
    images = torch.tensor(golden["toy_images"])
    found = editing_consistency(
        images,
        lambda x: (x.flatten(1) @ encoder.T).view(-1, *mean.shape) + mean,
        lambda w: (w.flatten(1) @ decoder.T).view(-1, *images.shape[1:]),
        direction(golden["toy_direction"].reshape(-1)),
        float(golden["toy_factor"]),
        batch_size=1,
    )
    assert found.released(1) == pytest.approx(float(golden["toy_lec"]), rel=1e-6)
