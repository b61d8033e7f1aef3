"""Flicker: what changes between frames of renderings beyond what changes in the photos."""

from __future__ import annotations

import pytest
import torch

from ganinv.metrics.flicker import flicker, frame_changes


def test_change_is_of_the_interior() -> None:
    frames = torch.zeros(3, 3, 16, 16)
    frames[1, :, :2] = 1  # the rim
    assert frame_changes(frames).tolist() == [0, 0]
    frames[1, :, 4:8, 4:8] = 0.9
    assert frame_changes(frames).tolist() == pytest.approx([0.9 * 16 / 144] * 2)


def test_motion_of_the_photos_is_no_flicker_and_jitter_is() -> None:
    photos = torch.linspace(-1, 1, 9)[:, None, None, None].expand(9, 3, 16, 16)
    assert flicker(0.5 + photos, photos) == pytest.approx(0, abs=1e-6)
    jitter = torch.where(torch.arange(9) % 2 == 0, 0.3, -0.3)[:, None, None, None]
    assert flicker(photos + jitter, photos) == pytest.approx(
        0.35, abs=0.01
    )  # 0.6 on the way up, 0.6 less a step on the way down
    assert flicker(torch.zeros_like(photos), photos) == pytest.approx(-0.25), "motion that is not rendered"
    with pytest.raises(ValueError, match="two at least, got 1 and 1"):
        flicker(photos[:1], photos[:1])
