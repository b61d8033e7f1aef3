"""HFGI on a small generator of 64x64: where the conditions act, and whose rendering they are aligned with."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.errors import ConfigError
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.hfgi import Hfgi, HfgiConfig
from tests.tiny import random_w, tiny_generator


@pytest.fixture(scope="module")
def generator() -> Generator:
    return tiny_generator(64)


@pytest.fixture(scope="module")
def hfgi(generator: Generator) -> Hfgi:
    torch.manual_seed(0)
    cfg = HfgiConfig(input_height=64, input_width=64, channels=generator.cfg.channels[4])
    return Hfgi(cfg, generator).eval().requires_grad_(False)


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
