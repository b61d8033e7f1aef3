"""Which region a channel acts in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ganinv.codes.code import Code
from ganinv.directions.measuring.localise import LocaliseConfig, RegionVotes, gradient_maps, localise
from ganinv.directions.styles import StyleLayer, StyleLayout
from ganinv.errors import DataError
from ganinv.labels.segmenters import open_segmenter
from tests.tiny import random_w, tiny_generator

REGIONS = ("others", "left", "right", "spot")


@pytest.mark.seconds
def test_gradient_maps_are_derivatives_of_the_image() -> None:
    g = tiny_generator(16, dtype=torch.float64)
    layout, w = StyleLayout.of(g), random_w(g, 1)
    maps = gradient_maps(g, w, 8)
    assert maps.shape == (layout.size, 8, 8)
    assert maps[~torch.from_numpy(layout.convolutions)].abs().max() == 0
    for name, channel in (("convs.0", 2), ("convs.1", 7), ("convs.4", 1)):
        offset = torch.zeros(1, dict(layout.style_layers)[name], dtype=torch.float64)
        offset[0, channel] = 1e-5
        up, down = (g.synthesize(Code(w=w, styles={name: sign * offset})) for sign in (1, -1))
        expected = F.adaptive_avg_pool2d((up - down) / 2e-5, 8).abs().mean(1)[0]
        torch.testing.assert_close(maps[layout.index(name, channel)].double(), expected, atol=1e-6, rtol=1e-4)
    part = gradient_maps(g, w, 8, layers=["convs.3"], chunk=3)
    at = layout.index("convs.3", 0)
    torch.testing.assert_close(part[at : at + 8], maps[at : at + 8])
    assert part[:at].abs().max() == 0


@pytest.fixture(scope="module")
def world() -> tuple[RegionVotes, StyleLayout]:
    """Channels 0 to 3 act on the left, 4 to 7 on the right, 8 on a spot, 9 everywhere, 10 nowhere, 11 is a toRGB."""
    regions = torch.zeros(16, 16, dtype=torch.int64)
    regions[:, :6], regions[:, 8:] = 1, 2
    regions[4:7, 10:13] = 3
    support = torch.zeros(12, 16, 16)
    support[:4] = (regions == 1).float()
    support[4:8] = (regions == 2).float()
    support[8] = (regions == 3).float()
    support[9] = 1.0
    support[11] = (regions == 1).float()
    votes = RegionVotes(REGIONS, 12)
    rng = torch.Generator().manual_seed(0)
    for image in range(30):
        noise = 0.2 * torch.rand(12, 16, 16, generator=rng)
        noise[10] = 0
        seen = regions.clone()
        if image % 3 == 0:  # the spot is not in every image
            seen[seen == 3] = 2
        votes.add(support * (0.5 + torch.rand(12, 1, 1, generator=rng)) + noise, seen)
    layers = (StyleLayer("convs.0", 11, 0, False), StyleLayer("torgbs.0", 1, 1, True))
    return votes, StyleLayout(layers)


def test_channels_of_known_support_are_found(world: tuple[RegionVotes, StyleLayout]) -> None:
    """docs/methods/stylespace.md, check 6."""
    votes, layout = world
    assert votes.present.tolist() == [30, 30, 30, 20]
    rates = votes.rates
    assert (rates[:4, 1] > 0.9).all()
    assert (rates[4:8, 2] > 0.9).all()
    assert rates[8, 3] > 0.9
    assert votes.counts[10].sum() == 0
    local = votes.select(layout)
    assert {(c.index, c.region) for c in local} >= {(i, "left") for i in range(4)} | {(8, "spot")}
    assert 11 not in [c.index for c in local]  # a toRGB
    assert [c.rate for c in local] == sorted((c.rate for c in local), reverse=True)
    assert all(c.rate > 0.5 and c.margin > 0.25 for c in local)


def test_votes_of_partitions_add_up(world: tuple[RegionVotes, StyleLayout]) -> None:
    votes, _ = world
    rng = torch.Generator().manual_seed(5)
    maps = [torch.rand(12, 8, 8, generator=rng) for _ in range(6)]
    masks = [torch.randint(0, 4, (8, 8), generator=rng) for _ in range(6)]
    whole, first, second = (RegionVotes(REGIONS, 12) for _ in range(3))
    for i, (one, mask) in enumerate(zip(maps, masks, strict=True)):
        whole.add(one, mask)
        (first if i % 2 else second).add(one, mask)
    np.testing.assert_array_equal(first.merge([second]).counts, whole.counts)
    with pytest.raises(DataError, match=r"expected maps \[12, P, P\]"):
        votes.add(torch.zeros(3, 8, 8), torch.zeros(8, 8, dtype=torch.int64))


def test_a_region_that_no_image_has_has_no_rate() -> None:
    votes = RegionVotes(REGIONS, 2)
    votes.add(torch.rand(2, 4, 4), torch.ones(4, 4, dtype=torch.int64))
    assert np.isnan(votes.rates[:, 3]).all()
    np.testing.assert_array_equal(votes.rates[:, 1], [1, 1])


@pytest.mark.seconds
def test_a_generator_is_localised_with_a_template() -> None:
    g = tiny_generator(16)
    votes = localise(g, random_w(g, 2), open_segmenter("aligned-face"), LocaliseConfig(size=32))
    assert votes.counts.shape == (StyleLayout.of(g).size, 11)
    convolutions = StyleLayout.of(g).convolutions
    assert (votes.counts[convolutions].sum(1) == 2).all()
    assert votes.counts[~convolutions].sum() == 0
