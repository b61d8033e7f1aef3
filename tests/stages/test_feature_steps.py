"""Steps on features: their unit, and features that an inverter put in the place of the generator's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ganinv.codes.code import Code, Feature, Masked
from ganinv.codes.parts import masked
from ganinv.generators.carrying import carry_features
from ganinv.generators.sites import find_site, site_deviation, site_statistics
from ganinv.generators.stylegan2 import Generator, GeneratorConfig
from ganinv.stages.base import Context
from ganinv.stages.method import method_config
from ganinv.stages.optimize import Optimize
from ganinv.target import Target
from tests.tiny import random_w, tiny_generator


@pytest.fixture(scope="module")
def generator() -> Generator:
    return tiny_generator()


def optimised(g: Generator, code: Code, **settings: Any) -> Code:
    """One step towards other images, on features alone."""
    stage = Optimize.model_validate(
        {
            "space": None,
            "start": "code",
            "steps": 1,
            "lr_rampup": 0.0,
            "lr_rampdown": 0.0,
            "latent_noise": 0.0,
            "loss": {"distance_weight": 0.0},
            **settings,
        }
    )
    target = Target(g.render(Code(w=random_w(g, len(code), seed=9))))
    return stage(target, code, Context(g, lambda name: pytest.fail(name))).code


def test_a_step_counts_deviations_of_the_site(generator: Generator) -> None:
    code = Code(w=random_w(generator, 2))
    for site in ("block[2]", "act[5]"):
        feature = {"site": site, "lr": 0.25, "unit": "deviation"}
        moved = optimised(generator, code, features=[feature]).features[site].add  # type: ignore[index]
        assert isinstance(moved, torch.Tensor)
        far = moved.abs()[moved != 0]
        # Adam's first step has one length wherever there is a gradient to speak of.
        assert float(far.median()) == pytest.approx(0.25 * site_deviation(site, generator), rel=1e-2)
        plain = optimised(generator, code, features=[{"site": site, "lr": 0.25}]).features[site].add  # type: ignore[index]
        assert isinstance(plain, torch.Tensor)
        assert float(plain.abs()[plain != 0].median()) == pytest.approx(0.25, rel=1e-2)
    assert site_deviation("block[2]", generator) == pytest.approx(
        float(site_statistics("block[2]", generator)[1].square().mean().sqrt())
    )


@pytest.mark.parametrize("in_part", [False, True])
def test_features_that_an_inverter_made_are_what_moves(generator: Generator, in_part: bool) -> None:
    w = random_w(generator, 2)
    _, captured = generator.synthesize(Code(w=w), capture=["block[2]"])
    made = captured["block[2]"] + 0.1
    mask = torch.zeros(2, 1, 8, 8)
    mask[..., :4] = 1
    held = Masked(made, mask) if in_part else made
    code = Code(w=w, features={"block[2]": Feature(replace=held)})
    feature = optimised(generator, code, lr=0.01, features=[{"site": "block[2]"}]).features["block[2]"]  # type: ignore[index]
    assert feature.add is None
    if in_part:
        assert isinstance(feature.replace, Masked)
        assert torch.equal(feature.replace.mask, mask)  # type: ignore[arg-type]
        assert torch.equal(feature.replace.value[..., 4:], made[..., 4:])  # outside there is no gradient
        assert not torch.equal(feature.replace.value[..., :4], made[..., :4])
        return
    assert isinstance(feature.replace, torch.Tensor)
    assert 0 < float((feature.replace - made).abs().max()) <= 0.0101
    refined = Code(w=w, features={"block[2]": feature})
    edited = refined.with_w(w + 0.2)
    plain, after = (
        masked(carry_features(generator, c, e).features["block[2]"].replace).value  # type: ignore[index, arg-type]
        for c, e in ((code, code.with_w(w + 0.2)), (refined, edited))
    )
    torch.testing.assert_close(after - plain, feature.replace - made, atol=1e-5, rtol=1e-4)


def test_steps_go_on_from_an_offset_that_is_there(generator: Generator) -> None:
    code = Code(w=random_w(generator, 2))
    features = [{"site": "block[2]", "lr": 1e-9, "unit": "deviation"}]
    offset = 0.05 * torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(2))
    begun = Code(w=code.w, features={"block[2]": Feature(add=offset)})
    again = optimised(generator, begun, features=features).features["block[2]"].add  # type: ignore[index]
    torch.testing.assert_close(again, offset, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["hybrid", "dhr", "sfe-refined"])
def test_shipped_methods_step_in_deviations_at_sites_of_every_generator(name: str) -> None:
    last = method_config(name).stages[-1]
    assert isinstance(last, Optimize)
    (feature,) = last.features
    assert feature.unit == "deviation"
    assert (feature.lr or last.lr) <= 0.5
    for resolution in (64, 1024):
        widths = (4,) * (resolution.bit_length() - 2)
        with torch.device("meta"):
            g = Generator(GeneratorConfig(resolution=resolution, channels=widths, z_dim=4, w_dim=4, mapping_layers=1))
        assert find_site(feature.site, g)
