"""The small parts of a report by hand-made values."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from matplotlib.axes import Axes

from ganinv.report.edit_curves import is_monotone, read_effects
from ganinv.report.figure import SERIES, draw
from ganinv.report.fits import read_fits
from ganinv.report.images import LARGEST, data_uri, pixels
from ganinv.report.plots import smoothed
from ganinv.report.strips import _thirds
from ganinv.report.words import duration, find_protocol, listed, number, signed

from .stocked import add_directions, empty_store, tiny_generator, write


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123456, "0.01235"),
        (23.4567, "23.46"),
        (123456.0, "123,456"),
        (-0.5, "−0.5000"),
        (0.0, "0"),
        (1e-6, "1.000e-06"),
        (math.inf, "∞"),
        (math.nan, "–"),
        (None, "–"),
    ],
)
def test_numbers_have_four_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_words() -> None:
    assert [signed(0.5), signed(-0.5), signed(-0.001)] == ["+0.50", "−0.50", "0.00"]
    assert [duration(0.85), duration(250), duration(7500)] == ["0.850 s", "4 min 10 s", "2 h 5 min"]
    assert [listed([]), listed(["a"]), listed(["a", "b", "c"])] == ["", "a", "a, b and c"]


def test_a_protocol_is_found_where_it_is_nested() -> None:
    protocol = find_protocol({"a": 1}, {"evaluation": {"protocol": {"name": "mine", "resize": 256}}})
    assert protocol is not None
    assert (protocol.name, protocol.resize) == ("mine", 256)
    assert find_protocol({"protocol": {"unheard": 1}}) is None


def test_strips_are_best_typical_and_worst() -> None:
    order = [f"{i:03d}" for i in range(101)]
    (best, first), (typical, middle), (worst, last) = _thirds(order, 8)
    assert (best, typical, worst) == ("Best 2 of 101", "Typical: around the median", "Worst 2 of 101")
    assert (first, last) == (order[:2], order[-2:])
    assert "050" in middle
    assert len(middle) == 4
    assert _thirds(order[:3], 8) == [("All 3 images, best first", order[:3])]
    assert [members for _, members in _thirds(order, 1)] == [["050"]]


def test_monotone_means_never_falling_and_ending_higher() -> None:
    assert is_monotone(np.array([0.0, 1.0, np.nan, 1.0, 2.0]))
    assert not is_monotone(np.array([0.0, 1.0, 0.9]))
    assert not is_monotone(np.array([1.0, 1.0]))
    assert not is_monotone(np.array([np.nan, 1.0]))


def test_side_effects_are_slopes_in_deviations() -> None:
    """Two images whose score changes by 3 and by 5 per unit: 4 on average, 2 deviations of 2."""
    strengths = [-1.0, 2.0, -1.0, 2.0]
    table = pa.table(
        {
            "image_id": ["a", "a", "b", "b"],
            "edit": ["older"] * 4,
            "strength": strengths,
            "score_age": [10 - 3.0, 10 + 6.0, 20 - 5.0, 20 + 10.0],
            "score_age_before": [10.0, 10.0, 20.0, 20.0],
            "score_hair": [1.0] * 4,
            "score_hair_before": [1.0] * 4,
        }
    )
    collection = empty_store().collection("edit-metrics", "x")
    write(collection, "evaluate-edits", table, {}, {})
    effects = read_effects(collection, {"age": 2.0, "hair": 1.0}, {})
    assert effects is not None
    np.testing.assert_allclose(effects.side_effects, [[2.0, 0.0]])
    (response,) = effects.responses
    assert (response.attribute, response.assumed, response.monotone, response.of) == ("age", True, 2, 2)
    np.testing.assert_array_equal(response.strengths, [-1.0, 0.0, 2.0])
    np.testing.assert_array_equal(response.scores, [[7.0, 10.0, 16.0], [15.0, 20.0, 30.0]])
    named = read_effects(collection, {}, {"older": "hair"})
    assert named is not None
    assert (named.responses[0].attribute, named.responses[0].assumed) == ("hair", False)
    assert named.scale == "the unedited images"


def test_deprecated_directions_are_not_reported() -> None:
    store, generator, notes = empty_store(), tiny_generator(), []
    for _ in range(2):
        add_directions(store, generator)
    store.directions.deprecate("smile", "mislabelled", version=2)
    store.directions.deprecate("age", "use older")
    fits = read_fits(store, generator.fingerprint, notes)
    assert [(fit.name, fit.direction.version) for fit in fits] == [("smile", 1)]
    assert notes == []


def test_smoothing_keeps_a_line() -> None:
    line = np.arange(200, dtype=np.float64)
    np.testing.assert_allclose(smoothed(line), line)
    assert len(smoothed(np.array([1.0]))) == 1


def test_a_figure_takes_its_colours_from_the_page() -> None:
    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=SERIES[1], label="$x$ <b>")
        axes.legend()

    svg = draw(paint, 300, 200, "a & b")
    assert svg.startswith('<svg role="img" aria-label="a &amp; b"')
    assert "var(--series-1)" in svg
    assert "$x$ &lt;b&gt;" in svg
    assert "#000000" not in svg
    assert "<style" not in svg


def test_images_become_small_data_uris() -> None:
    rng = np.random.default_rng(0)
    assert data_uri(rng.integers(0, 255, (64, 64, 3), np.uint8)).startswith("data:image/png;base64,")
    large = data_uri(rng.integers(0, 255, (1024, 1024, 3), np.uint8))
    assert large.startswith("data:image/jpeg;base64,")
    assert len(large) < LARGEST * LARGEST * 3
    grey = pixels(torch.tensor([[[[-1.0, 0.0], [1.0, torch.nan]]]]))
    np.testing.assert_array_equal(grey[0, :, :, 0], [[0, 128], [255, 128]])
    assert grey.shape == (1, 2, 2, 3)
