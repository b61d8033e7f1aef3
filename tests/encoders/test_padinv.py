"""PadInv on a small generator: where its rings stand, and what they begin with."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.errors import ConfigError, GeneratorMismatch, WeightsRefused
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.learning import begin_at_mean
from ganinv.methods.padinv import PadInv, PadInvConfig, PadInvRecipe, enlarged
from ganinv.methods.published.describe import describe
from ganinv.methods.published.padinv import PADINV
from tests.contracts.inverters import disturbed
from tests.encoders.outlines import outline
from tests.tiny import tiny_generator

SMALL = {"base_channels": 8, "pyramid_channels": 8}


@pytest.fixture(scope="module")
def g() -> Generator:
    return tiny_generator(64)


def padinv_for(g: Generator, **given: object) -> PadInv:
    torch.manual_seed(0)
    shape = PadInvConfig.for_generator(g, {"encoder": SMALL, **given})
    return PadInv(PadInvConfig.model_validate(shape), g)


def test_an_untrained_one_renders_the_mean_latent(g: Generator) -> None:
    """Constant and rings begin at the generator's own: its constant, and zeros."""
    padinv = padinv_for(g).eval()
    begin_at_mean(padinv, g)
    code = padinv(torch.rand(2, 3, 64, 64))
    assert isinstance(code.const, Tensor)
    assert torch.equal(code.const, g.synthesis.const.expand(2, -1, -1, -1))
    assert code.padding is not None
    assert {k: tuple(ring.shape) for k, ring in code.padding.items()} == {
        0: (2, 16, 20),
        2: (2, 16, 36),
        4: (2, 16, 68),
    }
    mean = g.synthesize(Code(w=g.w_mean.expand(2, g.num_ws, -1)))
    torch.testing.assert_close(g.synthesize(code), mean, atol=1e-6, rtol=1e-6)
    assert padinv.units.min() > 0
    assert padinv.units.unique().numel() == 4


def test_rings_are_concentric_cuts_of_one_map(g: Generator) -> None:
    """A head that passes a coordinate on: the ring of r pixels holds what lies r/2 + 1/2 pixels from the middle."""
    padinv = padinv_for(g, rings=2).eval()
    padinv.extractor = torch.nn.Sequential()
    with torch.no_grad():
        for head in padinv.ring_heads:
            head.get_parameter("weight")[:, 0] = 1.0
    x = torch.linspace(-4.5, 4.5, 16).expand(1, 8, 16, 16)  # columns of the largest map of 10 pixels, from the middle
    _, rings = padinv.padding(x)
    for k, half in ((0, 2.5), (2, 4.5)):
        left = rings[k][0, 0, -2 * (4 * 2 ** (k // 2)) :][: 4 * 2 ** (k // 2)]
        torch.testing.assert_close(left, torch.full_like(left, -half), atol=0.05, rtol=0)


def test_the_map_is_enlarged_as_torch_does() -> None:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(enlarged(x, 18), F.interpolate(x, (18, 18), mode="bicubic", align_corners=True))


def test_rings_change_the_image_and_edits_keep_them(g: Generator) -> None:
    padinv = disturbed(padinv_for(g), 3)
    code = padinv(torch.rand(1, 3, 64, 64))
    assert (g.synthesize(code) - g.synthesize(Code(w=code.w))).abs().max() > 1e-4
    edited = padinv.after_edit(None, code, code.with_w(code.w + 0.5))
    assert edited.padding is code.padding
    assert edited.const is code.const


def test_how_many_rings_follows_from_the_size(g: Generator) -> None:
    assert len(padinv_for(g).cfg.ring_channels) == 3
    assert len(padinv_for(tiny_generator()).cfg.ring_channels) == 2
    with torch.device("meta"):
        from ganinv.generators.stylegan2 import GeneratorConfig

        large = Generator(GeneratorConfig(resolution=1024, channels=(4,) * 9, z_dim=4, w_dim=4, mapping_layers=1))
    assert len(PadInvConfig.for_generator(large, {})["ring_channels"]) == 4
    with pytest.raises(ConfigError, match="9 rings: generator 'tiny' of 64 pixels has layers for 1 to 5"):
        PadInvRecipe(inverter={"rings": 9}).build(g, {}, None)


def test_another_generator_is_refused(g: Generator) -> None:
    padinv = padinv_for(g)
    other = tiny_generator(64)
    other.cfg = other.cfg.model_copy(update={"channels": (8, 16, 16, 8, 8)})
    with pytest.raises(
        GeneratorMismatch, match=r"constant of 16 and rings of \[16, 16, 16\] channels; generator 'tiny'"
    ):
        padinv.bind(other)


def layout() -> dict[str, dict[str, Tensor]]:
    """The published file for FFHQ by names and shapes, of its generator only what tells how many rows it takes."""
    state = outline("padinv_ffhq_r1024")["state_dict"]
    layers = {f"synthesis.layer{k}.weight": torch.zeros(1, device="meta") for k in range(17)}
    return {"encoder": {name.removeprefix("encoder."): t for name, t in state.items()}, "generator": layers}


@pytest.mark.seconds
def test_what_the_published_file_is() -> None:
    what = describe({"models": layout(), "running_metadata": {"iter": 1}})
    assert (what.method, what.n_styles, what.input_size) == ("padinv", 18, (256, 256))


@pytest.mark.parametrize(
    ("without", "message"),
    [
        (r"latent_heads", r"heads for 0 rows of W\+, its generator takes 18"),
        (r"latent_heads\.3\.", r"the file is not whole"),
        (r"padding_modulation_heads", "has no padding_modulation_heads"),
        (r"fpn\.lateral_layers\.1\.weight", r"missing fpn\.lateral_layers\.1\.weight"),
    ],
)
def test_a_file_without_what_it_needs_is_refused(without: str, message: str) -> None:
    models = layout()
    models["encoder"] = {name: tensor for name, tensor in models["encoder"].items() if not re.match(without, name)}
    with pytest.raises(WeightsRefused, match=message):
        PADINV.build(describe({"models": models}), torch.zeros(18, 512), "file")
