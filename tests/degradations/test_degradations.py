"""Degradations: pure functions of image and stream, and what each is to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ganinv.config import validate
from ganinv.degradations import holes
from ganinv.degradations.base import Degradation, Image8
from ganinv.degradations.degrade import DegradeConfig, degrade
from ganinv.degradations.holes import FreeForm, Strokes
from ganinv.degradations.rain import Rain, laid_over
from ganinv.degradations.registry import DEGRADATIONS
from ganinv.degradations.sampling import Down, Grey, Jpeg, shrunk
from ganinv.errors import ConfigError


def picture(height: int = 48, width: int = 64, channels: int = 3) -> Image8:
    return np.random.default_rng(1).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_a_degradation_is_a_function_of_image_and_stream(kind: str, channels: int) -> None:
    settings = {"labels": {"segmenter": "aligned-face"}}.get(kind, {})
    made: Degradation = DEGRADATIONS[kind](kind=kind, **settings)
    image = picture(width=48 if kind == "labels" else 64, channels=channels)  # segmenters take squares
    before = image.copy()
    one, same, other = (made.apply(image, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(image, before)
    assert one.image.shape == image.shape
    assert one.image.dtype == np.uint8
    assert np.array_equal(one.image, same.image)
    if kind not in ("grey", "down", "sketch", "labels"):  # in which nothing is drawn
        assert not np.array_equal(one.image, other.image)
    if one.hole is not None:
        assert np.array_equal(one.image[~one.hole], image[~one.hole])
        assert 0 < one.hole.mean() < 1


def test_rain_only_moves_pixels_towards_its_grey() -> None:
    dark = np.full((64, 64, 3), 20, np.uint8)
    wet = Rain().apply(dark, np.random.default_rng(0)).image
    assert wet.mean() > dark.mean() + 5
    assert wet.min() >= 20
    assert wet.max() <= 240
    dry = Rain(density=(0.0, 0.0)).apply(picture(), np.random.default_rng(0)).image
    assert np.array_equal(dry, picture())
    streaks = np.zeros((48, 64), np.uint8)
    streaks[:, 5] = 255
    covered = laid_over(picture(), streaks)
    assert np.all(covered[:, 5] == 240)
    assert np.array_equal(covered[:, 6:], picture()[:, 6:])


@pytest.mark.parametrize("share", [(0.0, 0.2), (0.2, 0.4), (0.4, 0.6)])
def test_free_forms_cover_the_wanted_share(share: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    covered = [FreeForm(share=share).draw(32, 32, rng).mean() for _ in range(15)]
    assert share[0] < min(covered)
    assert max(covered) < share[1]


def test_a_free_form_that_cannot_be_drawn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holes, "MOST_DRAWS", 3)
    with pytest.raises(ConfigError, match=r"none of 3 free forms covers between 0\.5 and 0\.5001 of an image of 8x8"):
        FreeForm(share=(0.5, 0.5001)).draw(8, 8, np.random.default_rng(0))


def test_strokes_cover_as_much_of_small_images_as_of_large_ones() -> None:
    small, large = (
        np.mean([Strokes().draw(side, side, np.random.default_rng(s)).mean() for s in range(60)]) for side in (128, 512)
    )
    assert small == pytest.approx(large, rel=0.2)


def test_down_keeps_what_is_constant_and_leaves_alone_by_one() -> None:
    flat = np.full((64, 64, 3), 77, np.uint8)
    assert np.array_equal(shrunk(flat, 4), np.full((16, 16, 3), 77))
    assert np.array_equal(Down(factors=(1,)).apply(picture(), np.random.default_rng(0)).image, picture())
    rough = picture(64, 64).astype(float)
    soft = Down(factors=(8,)).apply(picture(64, 64), np.random.default_rng(0)).image.astype(float)
    assert soft.std() < 0.3 * rough.std()


def test_grey_and_jpeg() -> None:
    grey = Grey().apply(picture(channels=4), np.random.default_rng(0)).image
    assert np.array_equal(grey[:, :, 0], grey[:, :, 2])
    assert np.array_equal(grey[:, :, 3], picture(channels=4)[:, :, 3])
    smooth = np.repeat(np.linspace(0, 255, 64, dtype=np.uint8)[:, None, None], 64, axis=1).repeat(3, axis=2)
    good, poor = (
        np.abs(Jpeg(quality=(q, q)).apply(smooth, np.random.default_rng(0)).image.astype(int) - smooth).mean()
        for q in (90, 5)
    )
    assert good < 2 < poor


def config(**other: Any) -> DegradeConfig:
    return validate(DegradeConfig, {"choose": [{"kind": "grey"}], **other}, "test")


def test_a_list_is_applied_one_after_the_other_and_the_rest_stays_clean() -> None:
    cfg = config(choose=[[{"kind": "grey"}, {"kind": "strokes", "fill": "black"}]], share=0.5)
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    assert cfg.count(4) == 2
    done = degrade(images, cfg, [5, 5], [2, 3])
    assert torch.equal(done.images[:2], images[:2])
    assert (done.images[2:, 0] == done.images[2:, 2]).all()
    assert torch.equal(done.holes[2], done.holes[3])
    assert 0 < done.holes[2].mean() < 1
    assert not done.holes[:2].any()
    assert (done.images[2, 0][done.holes[2, 0] > 0] == -1).all()


def test_each_of_the_choices_is_drawn_as_often() -> None:
    cfg = config(choose=[{"kind": "strokes", "fill": fill} for fill in ("white", "grey", "black")])
    done = degrade(torch.full((300, 1, 8, 8), 0.5), cfg, list(range(300)), list(range(300)))
    drawn = done.images.flatten(1)[done.holes.flatten(1).cumsum(1).eq(1) & done.holes.flatten(1).eq(1)]
    counts = [int((drawn == value).sum()) for value in (1.0, -1.0)] + [int((drawn.abs() < 0.1).sum())]
    assert sum(counts) == 300
    assert all(abs(count - 100) < 30 for count in counts)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"choose": []}, "at least 1"),
        ({"choose": [{"kind": "rian"}]}, "unknown degradation 'rian', did you mean 'rain'"),
        ({"choose": [{"kind": "down", "factors": [0]}]}, "factors must be at least 1"),
        ({"choose": [{"kind": "jpeg", "quality": [0, 50]}]}, "quality must rise within 1 and 95"),
        ({"choose": [{"kind": "free-form", "share": [0.4, 0.2]}]}, "share must rise within 0 and 1"),
        ({"share": 0.0}, "share"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**wrong)
