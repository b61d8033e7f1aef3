"""S: its layout, W2S, its statistics, and edits of single channels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ganinv.codes.code import Code
from ganinv.directions.fitting.screening import screen_channels
from ganinv.directions.fitting.stylespace import (
    StyleSpaceConfig,
    attribute_channels,
    channel_direction,
    choose_positives,
)
from ganinv.directions.measuring.effects import Start, edited
from ganinv.directions.styles import (
    StyleLayout,
    StyleStatistics,
    style_statistics,
    styles_of,
)
from ganinv.editing import Edit
from ganinv.errors import ConfigError, DataError
from ganinv.generators.stylegan2 import Generator, GeneratorConfig
from ganinv.labels.inputs import InputSpec
from ganinv.labels.network import NetworkLabeller
from ganinv.labels.outputs import Output
from tests.tiny import random_w, tiny_generator


@pytest.fixture(scope="module")
def g() -> Generator:
    return tiny_generator(32)


def config_f(resolution: int) -> GeneratorConfig:
    channels = tuple(min(512, 32768 // (4 * 2**b)) for b in range(resolution.bit_length() - 2))
    return GeneratorConfig(resolution=resolution, channels=channels)


def code_from_styles(generator: Generator, flat: torch.Tensor) -> Code:
    """A code that renders from S [B, size] alone: its styles replace what w would give."""
    values = StyleLayout.of(generator).split(flat)
    return Code(w=generator.w_mean.expand(len(flat), generator.num_ws, -1), style_values=values)


def test_the_layout_of_config_f() -> None:
    """docs/methods/stylespace.md, check 1: 26 layers, 9088 / 6048 / 3040, the published offsets and rows."""
    layout = StyleLayout.of(config_f(1024))
    assert len(layout.layers) == 26
    assert layout.size == 9088
    assert layout.convolutions.sum() == 6048
    assert (~layout.convolutions).sum() == 3040
    offsets = [*range(0, 7681, 512), 7936, 8192, 8448, 8576, 8704, 8832, 8896, 8960, 9024, 9056, 9088]
    assert list(layout.offsets) == offsets
    rows = [0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7, 8, 9, 9, 10, 11, 11, 12, 13, 13, 14, 15, 15, 16, 17]
    assert [layer.row for layer in layout.layers] == rows
    assert [i for i, layer in enumerate(layout.layers) if layer.torgb] == list(range(1, 26, 3))
    for resolution, count in ((512, 23), (256, 20)):
        assert len(StyleLayout.of(config_f(resolution)).layers) == count
    assert layout.place(layout.index(9, 409)) == (layout.layers[9], 409)
    assert layout.index(15, 45) == layout.index("convs.10", 45) == 7680 + 45


def test_the_layout_of_a_generator_is_that_of_its_configuration(g: Generator) -> None:
    layout = StyleLayout.of(g)
    assert layout == StyleLayout.of(g.cfg)
    assert [layer.name for layer in layout.layers] == g.style_names
    assert [width for _, width in layout.style_layers] == [s.shape[1] for s in g.styles(random_w(g, 1))]
    for index in (0, 15, 16, layout.size - 1):
        layer, channel = layout.place(index)
        assert layout.index(layer.name, channel) == index
    with pytest.raises(ConfigError, match=r"no layer 'convs.99'"):
        layout.index("convs.99", 0)
    with pytest.raises(ConfigError, match=r"'convs.0' has channels 0 \.\. 15, got 16"):
        layout.index(0, 16)
    with pytest.raises(ConfigError, match="got -1"):
        layout.place(-1)
    with pytest.raises(DataError, match=r"\[B, \d+\], got"):
        layout.split(torch.zeros(1, 3))


@pytest.mark.seconds
def test_synthesis_from_styles_is_synthesis_from_w_plus(g: Generator) -> None:
    """docs/methods/stylespace.md, check 2: with rows that all differ, so a toRGB that read the wrong row would show."""
    w = random_w(g, g.num_ws, seed=4)[:, 0][None]
    flat = styles_of(g, w)
    assert flat.shape == (1, StyleLayout.of(g).size)
    torch.testing.assert_close(g.render(code_from_styles(g, flat)), g.render(Code(w=w)), atol=1e-5, rtol=0)
    other = random_w(g, 1, seed=5)
    assert (g.render(code_from_styles(g, flat)) - g.render(Code(w=other))).abs().max() > 0.01
    # And with the eighteen rows of 1024 pixels.
    large = Generator(GeneratorConfig(resolution=1024, channels=(2,) * 9, z_dim=8, w_dim=8, mapping_layers=1)).eval()
    w = torch.randn(1, 18, 8, generator=torch.Generator().manual_seed(6))
    images = [large.render(code) for code in (Code(w=w), code_from_styles(large, styles_of(large, w)))]
    assert images[0].std() > 0.01
    torch.testing.assert_close(images[1], images[0], atol=1e-5, rtol=0)


def test_statistics_of_shards_are_those_of_the_whole(g: Generator) -> None:
    """docs/methods/stylespace.md, check 3."""
    w = random_w(g, 500)[:, 0].numpy()
    s = styles_of(g, torch.from_numpy(w)[:, None].expand(-1, g.num_ws, -1)).double().numpy()
    whole = StyleStatistics.of(s)
    np.testing.assert_allclose(whole.mean, s.mean(0), rtol=1e-9)
    np.testing.assert_allclose(whole.std, s.std(0), rtol=1e-6)
    streamed = style_statistics(g, np.array_split(w, 7))
    assert streamed.n == 500
    np.testing.assert_allclose(streamed.mean, whole.mean, rtol=1e-6)
    np.testing.assert_allclose(streamed.std, whole.std, rtol=1e-6)
    shards = [StyleStatistics.of(part) for part in np.array_split(s, 5)]
    np.testing.assert_allclose(StyleStatistics.merge(shards[::-1]).std, whole.std, rtol=1e-6)
    with pytest.raises(DataError, match="different origins"):
        whole + StyleStatistics.of(s, np.zeros(s.shape[1]))
    with pytest.raises(DataError, match="no statistics"):
        StyleStatistics.merge([])


@pytest.mark.seconds
def test_a_planted_channel_ranks_first() -> None:
    """docs/methods/stylespace.md, check 5: one of 6048 channels shifted by 3 standard deviations in ten positives."""
    layout = StyleLayout.of(config_f(1024))
    rng = np.random.default_rng(0)
    mean, std = rng.normal(size=layout.size), rng.uniform(0.1, 3, size=layout.size)
    population = mean + std * rng.normal(size=(1000, layout.size))
    statistics = StyleStatistics.of(population)
    planted = int(np.flatnonzero(layout.convolutions)[4321])
    positives = mean + std * rng.normal(size=(10, layout.size))
    # A shift of 3 among 6048 tries: the examples agree on it, which is what the score divides by.
    positives[:, planted] = mean[planted] - std[planted] * (3 + 0.3 * rng.normal(size=10))
    torgb = int(np.flatnonzero(~layout.convolutions)[77])
    positives[:, torgb] = mean[torgb] + 5 * std[torgb]
    found = attribute_channels(positives, statistics, layout)
    assert found[0].index == planted
    assert found[0].difference == pytest.approx(-3, abs=0.3)
    assert (found[0].layer, found[0].channel) == (layout.place(planted)[0].name, layout.place(planted)[1])
    assert len(found) == 8
    assert torgb not in [channel.index for channel in found]
    thetas = [channel.theta for channel in found]
    assert thetas == sorted(thetas, reverse=True)


def test_positives_come_from_the_bank_and_depend_on_ids_alone() -> None:
    rng = np.random.default_rng(0)
    scores, ids = np.round(rng.normal(size=300), 1), np.array([f"s{i:03d}" for i in range(300)])
    scores[::50] = np.nan
    config = StyleSpaceConfig(positives=5, bank=20)
    rows = choose_positives(scores, ids, config, "smile")
    assert len(rows) == 5
    assert (scores[rows] >= np.sort(scores[np.isfinite(scores)])[-20]).all()
    order = rng.permutation(300)
    again = choose_positives(scores[order], ids[order], config, "smile")
    assert set(ids[order][again]) == set(ids[rows])
    with pytest.raises(DataError, match=r"'smile'.*scores that differ"):
        choose_positives(np.ones(100), ids[:100], config, "smile")
    with pytest.raises(DataError, match=r"'smile': 7 valid scores"):
        choose_positives(scores[1:8], ids[1:8], config, "smile")


def test_a_channel_edit_moves_one_channel_and_comes_back(g: Generator) -> None:
    """docs/methods/stylespace.md, check 7."""
    layout = StyleLayout.of(g)
    index = layout.index("convs.2", 5)
    d = channel_direction(layout, index, 0.25, g.name, g.fingerprint, sign=-1.0, positive_means="less red")
    assert d.name == "s-convs.2-5"
    assert (d.space, d.unit, d.method) == ("s", 0.25, "stylespace")
    start = Start(random_w(g, 3))
    code = edited(g, d, start, 4.0)
    assert code.styles is not None
    assert list(code.styles) == ["convs.2"]
    offset = code.styles["convs.2"]
    assert offset[:, 5].tolist() == [-1.0] * 3
    assert (offset != 0).sum() == 3
    s = dict(zip(g.style_names, g.styles(start.w), strict=True))["convs.2"]
    back = (s + offset) + edited(g, d, start, -4.0).styles["convs.2"]  # type: ignore[index]
    torch.testing.assert_close(back, s, atol=1e-6, rtol=0)
    for base in (Code(w=start.w), Code(w=start.w, style_values={"convs.2": s})):  # S itself comes back to the bit
        there = Edit({"red": 4.0}).apply(base, {"red": d})
        again = Edit({"red": -4.0}).apply(there, {"red": d})
        assert not torch.equal(g.render(there), g.render(base))
        assert torch.equal(g.render(again), g.render(base))
    untouched = [c for c in range(s.shape[1]) if c != 5]
    assert torch.equal((s + offset)[:, untouched], s[:, untouched])
    assert not torch.equal(g.render(code), g.render(Code(w=start.w)))
    with pytest.raises(ConfigError, match="never varies"):
        channel_direction(layout, index, 0.0, g.name, g.fingerprint)


def test_screening_finds_the_channels_that_do_something(g: Generator) -> None:
    outputs = {"red": Output(column=0), "green": Output(column=1)}
    labeller = NetworkLabeller(
        Colours(), name="c", version=1, weights_sha256="", spec=InputSpec(size=32), outputs=outputs
    )
    layout, w = StyleLayout.of(g), random_w(g, 6)
    std = np.linspace(0.5, 1.5, layout.size)
    sigma = {"red": 0.5, "green": 0.25}
    found = screen_channels(g, labeller, w, std, sigma, batch_size=4)
    assert found.signed.shape == (layout.size, 2)
    for index in (layout.index("convs.2", 5), layout.index("torgbs.1", 0)):
        name = layout.place(index)[0].name
        offset = torch.zeros(1, dict(layout.style_layers)[name])
        offset[0, layout.place(index)[1]] = 0.004  # the image is bent: clamped, and rectified
        up, down = (labeller(g.render(Code(w=w, styles={name: sign * offset}))) for sign in (1, -1))
        for column, attribute in enumerate(("red", "green")):
            slope = ((up[attribute] - down[attribute]) / 0.008).numpy() * std[index] / sigma[attribute]
            assert found.signed[index, column] == pytest.approx(slope.mean(), rel=0.05, abs=1e-3)
            assert found.magnitude[index, column] == pytest.approx(np.abs(slope).mean(), rel=0.05, abs=1e-3)
    best = found.best("red", 5, least=0.0)
    ratio = found.ratio("red")
    assert ratio[best].tolist() == sorted(ratio[layout.convolutions])[:5]
    assert found.sign("red", best[0]) == np.sign(found.signed[best[0], 0])
    assert found.best("red", 5, least=1e9) == []
    with pytest.raises(ConfigError, match="screening for 'hat' needs its score"):
        found.ratio("hat")


class Colours(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean((2, 3))
        return torch.stack([mean[:, 0], mean[:, 1] - mean[:, 2]], 1)
