"""ReStyle's loop on a small generator: what is added, and what is seen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.config import validate
from ganinv.errors import ConfigError, GeneratorMismatch
from ganinv.generators.layers import EqualLinear
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.inputs import pool
from ganinv.methods.restyle import ReStyle, ReStyleConfig, ReStyleRecipe
from ganinv.methods.rows import RowEncoder
from ganinv.training.batches import MixedBatches
from ganinv.training.trainer import Trainer
from tests.tiny import tiny_generator


def restyle_for(g: Generator, kind: str = "psp", steps: int = 5, **other: object) -> ReStyle:
    torch.manual_seed(0)
    encoder = {"kind": kind, "resolution": 32, "base_channels": 8, "pyramid_channels": 8} | other
    cfg = validate(ReStyleConfig, ReStyleConfig.for_generator(g, {"encoder": encoder, "steps": steps}), "test")
    restyle = ReStyle(cfg, g)
    for linear in linears(restyle.encoder):
        torch.nn.init.normal_(linear.weight, std=0.3)
    restyle.encoder.latent_avg.copy_(g.w_mean)
    return restyle.eval().requires_grad_(False)


def linears(encoder: RowEncoder) -> list[EqualLinear]:
    return [m for m in encoder.heads.modules() if isinstance(m, EqualLinear)]


def test_a_constant_answer_is_added_at_every_step() -> None:
    g = tiny_generator()
    restyle = restyle_for(g)
    for linear in linears(restyle.encoder):
        linear.weight.zero_()
        linear.bias.fill_(0.25)
    codes = list(restyle.refine(torch.rand(2, 3, 32, 32)))
    for step, code in enumerate(codes, start=1):
        torch.testing.assert_close(code.w, (g.w_mean + 0.25 * step).expand(2, g.num_ws, -1))


@pytest.mark.parametrize("kind", ["psp", "e4e"])
def test_each_step_sees_the_rendering_of_the_code_before_it(kind: str) -> None:
    g = tiny_generator(16)
    restyle = restyle_for(g, kind, steps=3)
    encoder = restyle.encoder
    seen: list[Tensor] = []
    encoder.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    images = torch.rand(2, 3, 32, 32)
    codes = list(restyle.refine(images))
    before = [Code(w=g.w_mean.expand(2, g.num_ws, -1)), *codes[:-1]]
    for step, (inputs, code) in enumerate(zip(list(seen), before, strict=True)):
        assert torch.equal(inputs[:, :3], images)
        torch.testing.assert_close(inputs[:, 3:], pool(g.synthesize(code), (32, 32)))
        torch.testing.assert_close(codes[step].w, code.w + encoder.offsets(inputs))
    assert (codes[1].w - codes[0].w - (codes[0].w - g.w_mean)).abs().max() > 1e-3


def test_more_steps_go_on_from_fewer() -> None:
    g = tiny_generator()
    restyle, images = restyle_for(g), torch.rand(2, 3, 32, 32)
    assert torch.equal(restyle(images, steps=1).w, next(restyle.refine(images, steps=4)).w)
    begun = restyle(images, steps=2)
    torch.testing.assert_close(restyle(images, begun, steps=1).w, restyle(images, steps=3).w)


def test_an_image_does_not_depend_on_its_batch() -> None:
    g = tiny_generator()
    restyle, images = restyle_for(g, steps=3), torch.rand(3, 3, 48, 48)
    torch.testing.assert_close(restyle(images).w[1:2], restyle(images[1:2]).w, atol=1e-4, rtol=1e-4)


def test_what_does_not_go_together_is_refused() -> None:
    g = tiny_generator()
    with pytest.raises(ConfigError, match=r"set encoder\.sees_rendering to true"):
        restyle_for(g, sees_rendering=False)
    with pytest.raises(GeneratorMismatch, match="gives latents of 8x16, generator 'tiny' takes 6x16"):
        restyle_for(g).bind(tiny_generator(16))
    with pytest.raises(ValueError, match="it reads the image beside a rendering"):
        restyle_for(g).encoder(torch.rand(1, 3, 32, 32))


@pytest.mark.seconds
def test_on_e4e_codes_of_every_pass_are_held_near_w() -> None:
    g = tiny_generator()
    given = {
        "steps": 12,
        "batch_size": 2,
        "passes": 2,
        "progressive_start": 2,
        "progressive_every": 1,
        "inverter": {"encoder": {"kind": "e4e", "base_channels": 8, "pyramid_channels": 8}},
        "losses": {"distance": 0.0},
    }
    recipe = validate(ReStyleRecipe, given, "test")
    trainer = Trainer(recipe, lambda: recipe.build(g, {}, None), MixedBatches(recipe.data, g, 2))
    curve = [trainer.step() for _ in range(5)]
    assert [losses["stage"] for losses in curve] == [0, 0, 1, 2, 3]
    assert curve[0]["delta"] == 0 < curve[4]["delta"]
    assert {"adversarial", "discriminator"} <= curve[0].keys()
    assert set(trainer.state()["players"]) == {"latent critic"}
