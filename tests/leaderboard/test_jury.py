"""What the jury says, on cases whose answer is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from ganinv.leaderboard.jury import Jury, at_change, correlation, grain
from ganinv.leaderboard.protocol import AskedEdit, LeaderboardProtocol
from ganinv.report.intervals import MANY, estimate, ratio


def test_the_strength_at_which_a_change_is_reached() -> None:
    strengths, nan = (0.0, 1.0, 2.0), np.nan
    changes = np.array([[0.0, 0.0, 0.0, 0.0], [0.05, 0.2, 0.01, nan], [0.15, 0.1, 0.02, 0.4]])
    distances = np.array([[0.1, 0.1, 0.1, 0.1], [0.2, 0.5, 0.1, nan], [0.4, 0.9, 0.1, 0.3]])
    strength, (distance, twice) = at_change(changes, (distances, 2 * distances), strengths, 0.1)
    np.testing.assert_allclose(
        strength, [1.5, 0.5, nan, nan]
    )  # the third never moves, the fourth lost its face on the way
    np.testing.assert_allclose(distance, [0.3, 0.3, nan, nan])
    np.testing.assert_allclose(twice, 2 * distance)


@pytest.mark.seconds
def test_grain_tells_speckles_from_blur() -> None:
    rng = torch.Generator().manual_seed(0)
    source = torch.nn.functional.interpolate(torch.randn(2, 3, 16, 16, generator=rng), size=64, mode="bicubic") * 0.2
    source = source + 0.05 * torch.randn(source.shape, generator=rng)
    blurred = torch.nn.functional.avg_pool2d(source, 5, 1, 2)
    speckled = source + 0.2 * torch.randn(source.shape, generator=rng)
    sharpened = source + 0.5 * (source - blurred)
    moved = source.roll(3, -1)
    limit = LeaderboardProtocol().speckled
    assert (grain(source, blurred) < 1).all()
    assert (grain(source, sharpened) < 0).all()  # sharp is not speckled
    assert (grain(source, moved) < limit).all()  # nor is detail in the wrong place
    assert (grain(source, speckled) > 8).all()
    found = Jury(LeaderboardProtocol()).fidelity(source.repeat(2, 1, 1, 1), torch.cat([sharpened, speckled]))
    assert found["speckled"].tolist() == [0, 0, 1, 1]


def test_a_change_that_is_another_faces_is_told_from_ones_own() -> None:
    rng = torch.Generator().manual_seed(0)
    own, others = torch.randn(2, 3, 16, 16, generator=rng), torch.randn(1, 3, 16, 16, generator=rng)
    assert correlation(own, others).abs().max() < 0.2
    torch.testing.assert_close(correlation(0.5 * others.expand(2, -1, -1, -1) + 3, others).float(), torch.ones(2))
    assert correlation(torch.zeros(1, 3, 16, 16), others) == 0


def test_a_ratio_is_of_pairs() -> None:
    rng = np.random.default_rng(0)
    hard = rng.lognormal(0, 1, 60)  # images differ far more than methods do
    a, b = 0.8 * hard, hard * rng.normal(1, 0.02, 60)
    paired = ratio(a, b, 500)
    assert paired.low < 0.8 < paired.high
    assert paired.high - paired.low < 0.03
    alone = estimate(a, 500)
    assert (alone.high - alone.low) / alone.mean > 0.2
    assert np.isnan(estimate(a[:5], 500).low)
    assert estimate(np.array([np.nan, 1.0]), 500).count == 1
    assert estimate(a[:5], 500).text == "of 5: too few for an interval"
    many = np.tile(a, MANY // len(a) + 1)  # so many are not drawn, their mean is normal
    drawn = estimate(many[:MANY], 2000)
    computed = estimate(many, 2000)
    assert computed.low == pytest.approx(drawn.low, rel=0.02)
    assert computed.high == pytest.approx(drawn.high, rel=0.02)


@pytest.mark.seconds
def test_neither_a_stranger_nor_a_picture_that_does_not_react_can_be_edited() -> None:
    """The mean face takes every edit and is nobody; a copied picture is the person and takes none."""
    pytest.importorskip("dlib")
    from ganinv.codes.code import Code
    from ganinv.generators.files import open_generator

    g = open_generator("portraits-64")
    w = g.map(torch.randn(6, g.z_dim, generator=torch.Generator().manual_seed(3)), truncation_psi=0.7)
    photo = g.render(Code(w=w))
    mean = g.render(Code(w=g.w_mean.expand(6, g.num_ws, -1)))
    lighter = AskedEdit(direction="brightness", measure="brightness", change=0.05, changes=(0.02, 0.05))
    jury = Jury(LeaderboardProtocol(edits=(lighter,), strengths=(1.0, 2.0)))

    def honest(direction: str, strength: float, rows: Sequence[int]) -> torch.Tensor:
        return photo[list(rows)] + 0.1 * strength

    def of_the_mean(direction: str, strength: float, rows: Sequence[int]) -> torch.Tensor:
        return mean[list(rows)] + 0.1 * strength

    ghost = 0.1 + 0.05 * torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def with_a_ghost(direction: str, strength: float, rows: Sequence[int]) -> torch.Tensor:
        asked.append((strength, len(rows)))
        return photo[list(rows)] + strength * ghost

    asked: list[tuple[float, int]] = []
    kept = {
        "honest": jury.edits(photo, photo, honest),
        "mean": jury.edits(photo, mean, of_the_mean),
        "copy": jury.edits(photo, photo, lambda direction, strength, rows: photo[list(rows)]),
        "ghost": jury.edits(photo, photo, with_a_ghost, lambda direction, strength: strength * ghost),
    }
    assert np.nanmean(kept["honest"]["brightness_kept"]) > 0.8
    assert np.nanmean(kept["mean"]["brightness_reached"]) > 0.8
    assert np.nanmean(kept["mean"]["brightness_kept"]) < 0.5
    assert np.nanmean(kept["copy"]["brightness_reached"]) == 0
    assert np.nanmean(kept["ghost"]["brightness_reached"]) > 0.8
    assert asked[0] == (1.0, 6)
    assert sum(count for _, count in asked) < 12  # an image whose score has changed enough is not edited further
    assert np.nanmean(kept["ghost"]["brightness_kept"]) == 0
    assert np.nanmean(kept["ghost"]["brightness_borrowed"]) > 0.8
    honest_at = [np.nanmean(kept["honest"][f"brightness_identity_{change:g}"]) for change in (0.02, 0.05)]
    assert honest_at[0] < honest_at[1]  # the further, the less itself
    assert np.nanmean(kept["honest"]["brightness_side"]) < 0.5
    assert np.isnan(kept["copy"]["brightness_side"]).all()


def test_a_data_set_is_a_url_or_has_fields() -> None:
    from tasks.steps.leaderboard_job import LeaderboardJob

    given = {
        "a": "s3://b/photos",
        "b.url": "s3://b/p.parquet",
        "b.where.split": "test",
        "b.limit": 3,
        "c": {"url": "s3://b/x"},
    }
    job = LeaderboardJob.model_validate({"store": "s", "methods": ("e4e",), "datasets": given})
    assert {name: (one.url, dict(one.where), one.limit) for name, one in job.datasets.items()} == {
        "a": ("s3://b/photos", {}, None),
        "b": ("s3://b/p.parquet", {"split": "test"}, 3),
        "c": ("s3://b/x", {}, None),
    }
