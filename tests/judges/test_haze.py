"""A veil shows in plain numbers."""

from __future__ import annotations

from torch import Tensor

from ganinv.judges import measure_haze
from ganinv.judges.glasses_fit import blurred


def test_a_veil_brightens_and_takes_contrast_detail_and_colour(people: Tensor) -> None:
    before, after = measure_haze(people), measure_haze(people * 0.6 + 0.4)
    assert (after["brightness"] > before["brightness"]).all()
    for name in ("contrast", "detail", "saturation"):
        assert (abs(after[name] / before[name] - 0.6) < 1e-3).all()


def test_blur_takes_detail_alone(people: Tensor) -> None:
    before, after = measure_haze(people), measure_haze(blurred(people))
    assert (after["detail"] < 0.9 * before["detail"]).all()
    assert (abs(after["brightness"] - before["brightness"]) < 0.01).all()
