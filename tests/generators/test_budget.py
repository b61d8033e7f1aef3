"""Parameters and floating-point operations of config F, on the meta device: nothing is allocated or computed."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ganinv.codes.code import Code
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.stylegan2 import Generator


def config_f(resolution: int, channel_base: int = 32768) -> Generator:
    channels = tuple(min(512, channel_base // (4 * 2**b)) for b in range(resolution.bit_length() - 2))
    with torch.device("meta"):
        return Generator(GeneratorConfig(resolution=resolution, channels=channels)).requires_grad_(False)


def gflop(counter: FlopCounterMode) -> float:
    """All but the [1, 3, 3, 1] filters: the table counts what is between channels."""
    counts = counter.get_flop_counts()
    filters = sum(sum(c.values()) for name, c in counts.items() if name.rsplit(".", 1)[-1] in ("fir", "upsample"))
    return (counter.get_total_flops() - filters) / 1e9


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("resolution", "channel_base", "parameters", "synthesis", "forward"),
    [
        (256, 32768, 30_034_338, 27_933_090, 90.2),
        (256, 16384, 24_767_458, 22_666_210, 29.8),
        (512, 32768, 30_276_583, 28_175_335, 119.3),
        (1024, 32768, 30_370_060, 28_268_812, 148.5),
    ],
)
def test_the_table_of_the_compute_budget(
    resolution: int, channel_base: int, parameters: int, synthesis: int, forward: float
) -> None:
    g = config_f(resolution, channel_base)
    assert sum(p.numel() for p in g.parameters()) == parameters
    assert sum(p.numel() for p in g.synthesis.parameters()) == synthesis
    w = torch.empty(1, g.num_ws, g.w_dim, device="meta", requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        image = g.synthesize(Code(w=w))
    assert gflop(counter) == pytest.approx(forward, rel=0.005)
    with FlopCounterMode(display=False) as counter:
        image.sum().backward()
    # Frozen weights in the dense form: the gradient to w needs none of the weights'.
    assert counter.get_total_flops() / 1e9 == pytest.approx(forward, rel=0.02)


def test_the_layout_of_stylespace() -> None:
    """S dims of convolutions and of toRGB, W+ rows, layers."""
    for resolution, convs, rgb, layers in ((256, 5760, 2944, 20), (512, 5952, 3008, 23), (1024, 6048, 3040, 26)):
        g = config_f(resolution)
        widths = {name: layer.weight.shape[1] for name, layer, _ in g.synthesis.layers()}
        assert len(widths) == layers
        assert sum(c for name, c in widths.items() if name.startswith("convs")) == convs
        assert sum(c for name, c in widths.items() if name.startswith("torgbs")) == rgb
        rows = [row for _, _, row in g.synthesis.layers()]
        assert rows[:8] == [0, 1, 1, 2, 3, 3, 4, 5]
        assert rows[-1] == g.num_ws - 1
