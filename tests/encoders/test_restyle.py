"""ReStyle's loop on a small generator: what is added, and what is seen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.errors import GeneratorMismatch
from ganinv.generators.layers import EqualLinear
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.e4e import E4e
from ganinv.methods.inputs import pool
from ganinv.methods.psp import Psp
from ganinv.methods.restyle import ReStyle
from ganinv.methods.rows import RowEncoder, RowEncoderConfig
from tests.tiny import tiny_generator


def encoder_for(g: Generator, cls: type[RowEncoder] = Psp, **other: object) -> RowEncoder:
    torch.manual_seed(0)
    cfg = {"base_channels": 8, "pyramid_channels": 8, "sees_rendering": True} | other
    encoder = cls(RowEncoderConfig(resolution=32, num_ws=g.num_ws, w_dim=g.w_dim, **cfg))  # type: ignore[arg-type]
    for linear in linears(encoder):
        torch.nn.init.normal_(linear.weight, std=0.3)
    encoder.latent_avg.copy_(g.w_mean)
    return encoder.eval().requires_grad_(False)


def linears(encoder: RowEncoder) -> list[EqualLinear]:
    return [m for m in encoder.heads.modules() if isinstance(m, EqualLinear)]


def test_a_constant_answer_is_added_at_every_step() -> None:
    g = tiny_generator()
    encoder = encoder_for(g)
    for linear in linears(encoder):
        linear.weight.zero_()
        linear.bias.fill_(0.25)
    codes = list(ReStyle(encoder, g, steps=5).refine(torch.rand(2, 3, 32, 32)))
    for step, code in enumerate(codes, start=1):
        torch.testing.assert_close(code.w, (g.w_mean + 0.25 * step).expand(2, g.num_ws, -1))


@pytest.mark.parametrize("cls", [Psp, E4e])
def test_each_step_sees_the_rendering_of_the_code_before_it(cls: type[RowEncoder]) -> None:
    g = tiny_generator(16)
    encoder = encoder_for(g, cls)
    seen: list[Tensor] = []
    encoder.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    images = torch.rand(2, 3, 32, 32)
    codes = list(ReStyle(encoder, g, steps=3).refine(images))
    before = [Code(w=g.w_mean.expand(2, g.num_ws, -1)), *codes[:-1]]
    for step, (inputs, code) in enumerate(zip(list(seen), before, strict=True)):
        assert torch.equal(inputs[:, :3], images)
        torch.testing.assert_close(inputs[:, 3:], pool(g.synthesize(code), (32, 32)))
        torch.testing.assert_close(codes[step].w, code.w + encoder.offsets(inputs))
    assert (codes[1].w - codes[0].w - (codes[0].w - g.w_mean)).abs().max() > 1e-3


def test_more_steps_go_on_from_fewer() -> None:
    g = tiny_generator()
    encoder, images = encoder_for(g), torch.rand(2, 3, 32, 32)
    assert torch.equal(ReStyle(encoder, g, steps=1)(images).w, next(ReStyle(encoder, g, steps=4).refine(images)).w)


def test_an_image_does_not_depend_on_its_batch() -> None:
    g = tiny_generator()
    restyle, images = ReStyle(encoder_for(g), g, steps=3), torch.rand(3, 3, 48, 48)
    torch.testing.assert_close(restyle(images).w[1:2], restyle(images[1:2]).w, atol=1e-4, rtol=1e-4)


def test_what_does_not_go_together_is_refused() -> None:
    g = tiny_generator()
    with pytest.raises(ValueError, match="needs an encoder that sees the rendering"):
        ReStyle(encoder_for(g, sees_rendering=False), g)
    with pytest.raises(GeneratorMismatch, match="gives latents of 8x16, generator 'tiny' takes 6x16"):
        ReStyle(encoder_for(g), tiny_generator(16))
    with pytest.raises(ValueError, match="it reads the image beside a rendering"):
        encoder_for(g)(torch.rand(1, 3, 32, 32))
