"""HyperStyle's loop on a small generator: offsets add up, and 512 numbers stand for each of them."""

from __future__ import annotations

import pytest
import torch

from ganinv.codes.code import Code
from ganinv.codes.parts import dense
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.hyperstyle import HyperStyle, HyperStyleConfig
from ganinv.methods.inputs import pool
from ganinv.methods.psp import Psp, PspConfig
from tests.tiny import tiny_generator

LAYERS = ("convs.0", "convs.2", "convs.5")


@pytest.fixture(scope="module")
def generator() -> Generator:
    return tiny_generator()


@pytest.fixture(scope="module")
def hyperstyle(generator: Generator) -> HyperStyle:
    g = generator
    torch.manual_seed(0)
    cfg = PspConfig(resolution=64, num_ws=g.num_ws, w_dim=g.w_dim, base_channels=8, pyramid_channels=8)
    encoder = Psp(cfg).eval().requires_grad_(False)
    shapes = {name: g.synthesis.get_parameter(f"{name}.weight").shape for name in LAYERS}
    layers = {n: (s[0], s[1], s[2], s[3]) for n, s in shapes.items()}
    config = HyperStyleConfig(layers=layers, num_ws=g.num_ws, w_dim=g.w_dim, steps=3)
    hyperstyle = HyperStyle(config, g, {"w_encoder": encoder})
    hyperstyle.latent_avg.copy_(g.w_mean)
    return hyperstyle.eval().requires_grad_(False)


def test_offsets_of_the_passes_add_up(hyperstyle: HyperStyle, generator: Generator) -> None:
    """Each pass renders with the sum so far; the code that stands for the sum gives the sum of the single offsets."""
    images, g = torch.rand(2, 3, 64, 64), generator
    w = g.w_mean.expand(2, g.num_ws, -1)
    total: dict[str, torch.Tensor] = {}
    once = torch.ones(2)
    for code in hyperstyle.refine(images):
        rendering = pool(g.synthesize(Code(w=w, scales=total or None)), (64, 64))
        found = hyperstyle.hypernet(torch.cat([images, rendering], 1))
        for name, head in hyperstyle.hypernet.heads.items():
            offset = head(found[name.removesuffix(".weight")], once)
            total[name] = total[name] + offset if name in total else offset
        assert code.scales is not None
        assert torch.equal(code.w, w)
        for name, offset in total.items():
            torch.testing.assert_close(dense(code.scales[name], offset.shape[1:]), offset, atol=1e-5, rtol=1e-4)
    assert all(offset.abs().max() > 1e-3 for offset in total.values())


def test_offsets_change_the_rendering_and_zero_ones_do_not(hyperstyle: HyperStyle, generator: Generator) -> None:
    code = hyperstyle(torch.rand(1, 3, 64, 64))
    plain = generator.synthesize(Code(w=code.w))
    assert (generator.synthesize(code) - plain).abs().max() > 1e-3
    assert code.scales is not None
    zeros = {name: torch.zeros(1, *generator.synthesis.get_parameter(name).shape) for name in code.scales}
    nothing = Code(w=code.w, scales=zeros)
    torch.testing.assert_close(generator.synthesize(nothing), plain, atol=1e-6, rtol=1e-6)


def test_edits_keep_the_offsets(hyperstyle: HyperStyle) -> None:
    code = hyperstyle(torch.rand(2, 3, 64, 64))
    edited = code.with_w(code.w + 1.0)
    assert edited.scales is code.scales
    assert edited[1].scales is not None
    assert len(edited[1]) == 1
