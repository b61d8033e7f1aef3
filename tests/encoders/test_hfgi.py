"""HFGI on a small generator of 64x64: where the conditions act, and whose rendering they are aligned with."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganinv.codes.code import Code
from ganinv.errors import ConfigError, GeneratorMismatch
from ganinv.generators.sites import site_statistics
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.hfgi import Hfgi, HfgiConfig, HfgiLearner, HfgiRecipe
from ganinv.methods.learning import begin_at_mean
from ganinv.methods.psp import Psp, PspConfig
from ganinv.training.batches import Batch
from ganinv.training.players import ImageCritic
from ganinv.training.step import Step
from tests.tiny import random_w, tiny_generator


@pytest.fixture(scope="module")
def generator() -> Generator:
    return tiny_generator(64)


@pytest.fixture(scope="module")
def hfgi(generator: Generator) -> Hfgi:
    torch.manual_seed(0)
    cfg = HfgiConfig(input_height=64, input_width=64, channels=generator.cfg.channels[4])
    hfgi = Hfgi(cfg, generator).eval().requires_grad_(False)
    for condition in (hfgi.consultant.scale, hfgi.consultant.shift):  # untrained ones are zero
        nn.init.normal_(condition[1].get_parameter("weight"))
    return hfgi


def test_conditions_change_the_features_of_64x64_only(hfgi: Hfgi, generator: Generator) -> None:
    code = Code(w=random_w(generator, 1))
    found = hfgi.consult(torch.rand(1, 3, 64, 64), code)
    sites = ["act[6]", "act[7]"]
    image, features = generator.synthesize(found, capture=sites)
    plain, before = generator.synthesize(code, capture=sites)
    assert torch.equal(features["act[6]"], before["act[6]"])
    assert found.features is not None
    film = found.features["act[7]"].film
    assert film is not None
    torch.testing.assert_close(features["act[7]"], before["act[7]"] * (1 + film[0]) + film[1])
    assert (image - plain).abs().max() > 1e-3


def test_an_edit_is_aligned_with_its_own_rendering(hfgi: Hfgi, generator: Generator) -> None:
    seen: list[Tensor] = []
    handle = hfgi.aligner.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    images, code = torch.rand(1, 3, 64, 64), Code(w=random_w(generator, 1))
    same = hfgi.consult(images, code, Code(w=code.w.clone()))
    edited = hfgi.consult(images, code, code.with_w(code.w + 0.5))
    plain = hfgi.consult(images, code)
    handle.remove()
    residuals, shown = zip(*(x.split(3, dim=1) for x in seen), strict=True)
    assert torch.equal(residuals[0], residuals[1])  # the residual stays that of the inversion
    assert (shown[1] - shown[2]).abs().max() > 1e-3
    assert torch.equal(generator.synthesize(same), generator.synthesize(plain))
    assert torch.equal(edited.w, code.w + 0.5)


def test_without_an_encoder_latents_must_be_given(hfgi: Hfgi, generator: Generator) -> None:
    images, code = torch.rand(1, 3, 64, 64), Code(w=random_w(generator, 1))
    with pytest.raises(ConfigError, match=r"its encoder, which is not here: give it with --needed encoder=URI"):
        hfgi(images)
    assert torch.equal(generator.synthesize(hfgi(images, code)), generator.synthesize(hfgi.consult(images, code)))


def learner(generator: Generator, **other: Any) -> HfgiLearner:
    torch.manual_seed(1)
    shape = PspConfig.for_generator(generator, {"base_channels": 8, "pyramid_channels": 8})
    encoder = Psp(PspConfig.model_validate(shape), generator).eval().requires_grad_(False)
    begin_at_mean(encoder, generator)
    recipe = HfgiRecipe.model_validate({"losses": {"distance": 0}, **other})
    built = recipe.build(generator, {"encoder": encoder}, None)
    assert isinstance(built, HfgiLearner)
    return built


def test_an_untrained_one_renders_what_its_encoder_does(generator: Generator) -> None:
    """Scale and shift begin at zero, and shifts are in units of the features at the site that the recipe names."""
    trained = learner(generator, inverter={"site": {"resolution": "1/4", "kind": "up"}})
    hfgi = trained.network
    assert hfgi.cfg.site == "act[3]"
    assert (hfgi.cfg.channels, hfgi.cfg.side) == (generator.cfg.channels[2], 16)
    torch.testing.assert_close(hfgi.deviation, site_statistics("act[3]", generator)[1])
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    hfgi.eval()
    assert torch.equal(generator.synthesize(hfgi(images)), generator.synthesize(hfgi.need("encoder")(images)))


@pytest.mark.seconds
def test_training_moves_the_residual_and_asks_for_it_back(generator: Generator) -> None:
    """An aligner that gives back what it sees is right where nothing was moved, and wrong where it was."""
    images = generator.render(Code(w=random_w(generator, 4)))
    batch, values = Batch(images, images), []
    for probability in (0.0, 1.0):
        trained = learner(generator, distortion_probability=probability)
        trained.network.aligner = Back()  # type: ignore[assignment]
        (terms,) = trained.passes(batch, Step(0, 10))
        assert terms["alignment"][0] == 0.1
        values.append(float(terms["alignment"][1]))
    assert values[0] < 1e-6
    assert values[1] > 0.01


class Back(nn.Module):
    """The residual as it came."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :3]


def test_a_site_of_another_generator_is_refused(generator: Generator) -> None:
    cfg = HfgiConfig(input_height=64, input_width=64, channels=7)
    with pytest.raises(
        GeneratorMismatch, match=r"features of 7x64x64 at act\[7\]; those of generator 'tiny' are 8x64x64"
    ):
        Hfgi(cfg, generator)
    with pytest.raises(ConfigError, match=r"no features at 'act\[7\]'; it has act\[0\] to act\[6\]"):
        Hfgi(HfgiConfig(), tiny_generator())
    with pytest.raises(ConfigError, match="that would be 2 pixels"):
        learner(generator, inverter={"site": {"resolution": "1/32"}})


def test_conditions_of_the_inversion_do_not_fit_an_edit(hfgi: Hfgi, generator: Generator) -> None:
    images, code = torch.rand(1, 3, 64, 64), Code(w=random_w(generator, 1))
    found = hfgi.consult(images, code)
    edited = found.with_w(code.w + 0.5)
    again = hfgi.after_edit(images, found, edited)
    torch.testing.assert_close(generator.synthesize(hfgi.after_edit(images, found, found)), generator.synthesize(found))
    assert (generator.synthesize(again) - generator.synthesize(edited)).abs().max() > 1e-3


@pytest.mark.seconds
def test_a_copy_of_the_discriminator_learns_beside_it_where_it_is_asked_for(generator: Generator) -> None:
    """The generator's own judges distances, and stays as it is."""
    images = generator.render(Code(w=random_w(generator, 4)))
    assert not learner(generator).players
    trained = learner(generator, adversarial=0.02, critic={"lr": 0.01, "r1_weight": 0.0})
    (critic,) = trained.players.values()
    assert isinstance(critic, ImageCritic)
    own = generator.discriminator
    assert own is not None
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    (terms,) = trained.passes(Batch(images, images), Step(0, 10))
    assert terms["adversarial"][0] == 0.02
    sum(weight * value for weight, value in terms.values()).backward()  # type: ignore[union-attr]
    gradients = [p.grad for p in trained.network.consultant.shift.parameters() if p.grad is not None]
    assert any(gradient.abs().max() > 0 for gradient in gradients)
    assert all(torch.equal(before[name], tensor) for name, tensor in own.state_dict().items())
    learned = critic.discriminator.state_dict()
    assert any(not torch.equal(before[name], tensor) for name, tensor in learned.items())
