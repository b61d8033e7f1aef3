"""Sites by meaning: the same place in generators of every size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from ganinv.codes.code import Code
from ganinv.errors import ConfigError
from ganinv.generators.extras import sites
from ganinv.generators.sites import Site, find_site, site_number, site_shape, site_statistics
from ganinv.generators.stylegan2 import Generator, GeneratorConfig
from ganinv.stages.optimize import Optimize
from tests.tiny import random_w, tiny_generator

READ: TypeAdapter[Any] = TypeAdapter(Site)


def of_size(resolution: int) -> Generator:
    widths = (4,) * (resolution.bit_length() - 2)
    with torch.device("meta"):
        return Generator(GeneratorConfig(resolution=resolution, channels=widths, z_dim=4, w_dim=4, mapping_layers=1))


@pytest.mark.parametrize(
    ("resolution", "kind", "at_64", "at_1024"),
    [
        ("1/4", "block", "block[4]", "block[12]"),
        ("1/16", "up", None, "act[7]"),
        ("1/4", "up", "act[3]", "act[11]"),
        ("1/2", "act", "act[6]", "act[14]"),
        (0.25, "block", "block[4]", "block[12]"),
        (1, "act", "act[8]", "act[16]"),
        (16, "block", "block[4]", "block[4]"),
        ("4", "block", "block[0]", "block[0]"),
    ],
)
def test_one_description_fits_every_size(resolution: Any, kind: str, at_64: str | None, at_1024: str) -> None:
    site = READ.validate_python({"resolution": resolution, "kind": kind})
    for size, expected in ((64, at_64), (1024, at_1024)):
        if expected is not None:
            assert find_site(site, of_size(size)) == expected
    assert READ.validate_python(READ.dump_python(site)) == site


def test_every_site_has_the_shape_that_the_features_have() -> None:
    g = tiny_generator(64)
    code = Code(w=random_w(g, 1))
    names = [name for name in sites(g.synthesis) if not name.startswith("image")]
    _, captured = g.synthesize(code, capture=names)
    for name, features in captured.items():
        assert find_site(name, g) == name
        assert features.shape[1:] == (*site_shape(name, g), site_shape(name, g).side)


@pytest.mark.parametrize(
    ("site", "message"),
    [
        ("act[9]", r"has no features at 'act\[9\]'; it has act\[0\] to act\[8\]"),
        ("block[3]", r"no features at 'block\[3\]'.*even k up to 8"),
        ("image[2]", r"no features at 'image\[2\]'"),
        (
            {"resolution": "1/32"},
            r"resolution 1/32, kind block \(that would be 2 pixels\).*one of 1, 1/2, 1/4, 1/8, 1/16",
        ),
        ({"resolution": "1/3"}, r"that would be 64/3 pixels"),
        ({"resolution": "1/16", "kind": "up"}, r"nothing is up-sampled to 4 pixels"),
        ({"resolution": 128}, r"128 pixels"),
    ],
)
def test_a_site_that_is_not_there_is_told_with_those_that_are(site: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_site(READ.validate_python(site), of_size(64))


@pytest.mark.parametrize("resolution", ["a quarter", "1/0", 0, -4, "5/2"])
def test_a_share_that_is_none_is_refused(resolution: Any) -> None:
    with pytest.raises(ValidationError, match="expected a share"):
        READ.validate_python({"resolution": resolution})


def test_statistics_are_the_unit_of_the_features() -> None:
    """Twice the features have twice the mean and deviation; and a synthesis without noise gives what is measured by hand."""
    g = tiny_generator()
    mean, deviation = site_statistics("block[2]", g, samples=8)
    rng = torch.Generator().manual_seed(123)
    w = g.map_all(torch.randn(8, g.z_dim, generator=rng))
    _, captured = g.synthesize(Code(w=w), capture=["block[2]"])
    x = captured["block[2]"]
    torch.testing.assert_close(mean, x.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(deviation, x.var(dim=0, correction=0).mean(dim=(1, 2)).sqrt())
    assert site_number("block[2]") == 2


def test_an_optimisation_takes_a_site_by_meaning() -> None:
    from ganinv.stages.base import Context
    from ganinv.target import Target

    g = tiny_generator()
    context = Context(g, open_inverter=lambda name: pytest.fail(name))
    target = Target(g.render(Code(w=random_w(g, 2))))
    codes = []
    for site in ("act[4]", {"resolution": "1/2", "kind": "act"}):
        stage = Optimize.model_validate(
            {"space": None, "start": "code", "steps": 2, "latent_noise": 0.0, "features": [{"site": site}]}
        )
        codes.append(stage(target, Code(w=g.w_mean.expand(2, g.num_ws, -1)), context).code)
    by_number, by_meaning = (code.features or {} for code in codes)
    assert list(by_meaning) == ["act[4]"]
    added = [features["act[4]"].add for features in (by_number, by_meaning)]
    assert isinstance(added[0], torch.Tensor)
    assert isinstance(added[1], torch.Tensor)
    assert torch.equal(added[0], added[1])
    assert added[0].abs().max() > 0
