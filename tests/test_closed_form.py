"""The rule for closed-form weights against the check values of the golden data's README."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.closed_form import CHUNK, closed_form_tensor, unit_values


def test_check_values() -> None:
    expected = [0.11956346035003662, -0.35497117042541504, -0.8631995916366577, -0.029120922088623047]
    assert unit_values("psp-a", "encoder.input_layer.0.weight", 5)[:4].tolist() == expected


def test_float32_values() -> None:
    values = closed_form_tensor("ros32", "conv1.conv.weight", [1, 5], 0.0, 1.73205)
    assert values.flatten().tolist() == pytest.approx([-0.66705006, -1.3305142, 0.4549116, 1.5542562, 0.6624359])


def test_index_runs_on_over_chunks() -> None:
    whole = unit_values("s", "k", 2 * CHUNK + 3)
    assert np.array_equal(whole[:7], unit_values("s", "k", 7))
    assert abs(np.mean(whole)) < 4 * math.sqrt(1 / 3 / whole.size)
    assert whole[CHUNK : CHUNK + 5].tolist() != whole[:5].tolist()


def test_integers_are_filled_with_a() -> None:
    assert closed_form_tensor("s", "num_batches_tracked", [], 1000.0, 0.0, "int64").item() == 1000
