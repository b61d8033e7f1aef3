"""HyperStyle's loop on a small generator: offsets add up, and 512 numbers stand for each of them."""

from __future__ import annotations

import pytest
import torch

from ganinv.codes.code import Code
from ganinv.codes.parts import HeadCode, dense
from ganinv.errors import ConfigError, GeneratorMismatch, WeightsRefused
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.hyperstyle import HyperStyle, HyperStyleConfig, HyperStyleRecipe
from ganinv.methods.inputs import pool
from ganinv.methods.learning import begin_at_mean
from ganinv.methods.psp import Psp, PspConfig
from ganinv.methods.published.build import build_hypernet
from ganinv.methods.published.description import EncoderDescription
from ganinv.methods.w import WEncoder, WEncoderConfig
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


@pytest.mark.seconds
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


@pytest.mark.seconds
def test_offsets_change_the_rendering_and_zero_ones_do_not(hyperstyle: HyperStyle, generator: Generator) -> None:
    code = hyperstyle(torch.rand(1, 3, 64, 64))
    plain = generator.synthesize(Code(w=code.w))
    assert (generator.synthesize(code) - plain).abs().max() > 1e-3
    assert code.scales is not None
    zeros = {name: torch.zeros(1, *generator.synthesis.get_parameter(name).shape) for name in code.scales}
    nothing = Code(w=code.w, scales=zeros)
    torch.testing.assert_close(generator.synthesize(nothing), plain, atol=1e-6, rtol=1e-6)


@pytest.mark.seconds
def test_edits_keep_the_offsets(hyperstyle: HyperStyle) -> None:
    code = hyperstyle(torch.rand(2, 3, 64, 64))
    edited = code.with_w(code.w + 1.0)
    assert edited.scales is code.scales
    assert edited[1].scales is not None
    assert len(edited[1]) == 1


def small(generator: Generator, **given: object) -> HyperStyle:
    """Of this project's own form, untrained, from an encoder into W."""
    torch.manual_seed(2)
    sizes = {"base_channels": 8, "pyramid_channels": 8}
    shape = WEncoderConfig.for_generator(generator, {"backbone": "small", **sizes})
    encoder = WEncoder(WEncoderConfig.model_validate(shape), generator).eval().requires_grad_(False)
    begin_at_mean(encoder, generator)
    recipe = HyperStyleRecipe.model_validate(
        {"losses": {"distance": 0}, "inverter": {"trunk": "small", "code_dim": 4, "steps": 3, **sizes, **given}}
    )
    network = recipe.build(generator, {"w_encoder": encoder}, None).network
    assert isinstance(network, HyperStyle)
    return network.eval()


def test_an_untrained_one_renders_what_its_encoder_does(generator: Generator) -> None:
    hyperstyle = small(generator, layers=["convs.*", "torgbs.*"])
    assert list(hyperstyle.cfg.layers) == generator.style_names
    images = torch.rand(2, 3, 32, 32)
    code = hyperstyle(images)
    assert code.scales is not None
    assert set(code.scales) == {f"{name}.weight" for name in generator.style_names}
    torch.testing.assert_close(generator.synthesize(code), generator.synthesize(hyperstyle.w_encoder(images)))


def test_layers_of_one_shape_share_a_head_unless_told_otherwise(generator: Generator) -> None:
    """The tiny generator's first convolutions are 16x16; each of the narrower ones has a head of its own."""
    heads = small(generator).hypernet.heads
    assert len({id(heads[f"convs.{k}.weight"]) for k in range(5)}) == 1
    assert len({id(head) for head in heads.values()}) == 3
    apart = small(generator, shared_shape=None).hypernet.heads
    assert len({id(head) for head in apart.values()}) == len(apart) == 7
    with pytest.raises(ConfigError, match=r"no layer of generator 'tiny' is called 'rgb\*'; it has convs\.0"):
        small(generator, layers=["rgb*"])


def test_each_pass_has_the_gradient_of_its_own_offset(generator: Generator) -> None:
    """With detach, the gradient of a head at pass t is that of what pass t added; the value is the whole sum's."""
    hyperstyle = small(generator).requires_grad_(True)
    rng = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in hyperstyle.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=rng))
    images, name = torch.rand(2, 3, 32, 32), "convs.5.weight"
    shape = generator.synthesis.get_parameter(name).shape
    *_, before, last = hyperstyle.refine(images, detach=True, steps=3)
    assert before.scales is not None
    assert last.scales is not None
    whole, plain = last.scales[name], hyperstyle.hypernet.heads[name]
    assert isinstance(whole, HeadCode)
    offset = dense(whole, shape)
    torch.testing.assert_close(offset, plain(whole.code, whole.passes))
    earlier = before.scales[name]
    assert isinstance(earlier, HeadCode)
    found = plain((whole.code - earlier.code).detach(), torch.ones(2))
    bias = plain.get_parameter("linear.bias")
    (alone,) = torch.autograd.grad(found.square().sum(), bias, retain_graph=True)
    (seen,) = torch.autograd.grad((offset * found.detach()).sum() * 2, bias)
    torch.testing.assert_close(seen, alone)


def test_a_generator_with_other_layers_is_refused(generator: Generator) -> None:
    cfg = HyperStyleConfig(layers={"convs.0": (16, 16, 3, 3), "convs.5": (7, 16, 3, 3)}, num_ws=8, w_dim=16)
    with pytest.raises(
        GeneratorMismatch, match=r"changes convs\.5 of shape \[7, 16, 3, 3\]; generator 'tiny' has one of"
    ):
        HyperStyle(cfg, generator)
    cfg = HyperStyleConfig(layers={"convs.9": (16, 16, 3, 3)}, num_ws=8, w_dim=16)
    with pytest.raises(GeneratorMismatch, match="has no such layer"):
        HyperStyle(cfg, generator)


def test_a_separable_head_is_refused(generator: Generator) -> None:
    tensors = {"refinement_blocks.0.output.0.first.weight": torch.zeros(1)}
    what = EncoderDescription("hyperstyle", None, {}, 8, (256, 256), 6, None, {"hypernet": tensors})  # type: ignore[arg-type]
    with pytest.raises(WeightsRefused, match="layer 0 has a separable head"):
        build_hypernet(what, generator, "file")
