"""A generator of one image's own renders it from w alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ganinv.codes.code import Code, Feature, LowRank, Masked
from ganinv.generators.baking import bake
from ganinv.generators.files import open_generator, save_generator
from ganinv.generators.stylegan2 import Generator
from tests.generators.narrow import CHANNELS, narrow_generator, normal, w_plus


@pytest.fixture(scope="module")
def g() -> Generator:
    return narrow_generator()


PARTS = {
    "dense weights": {"weights": {"convs.3.weight": normal(1, CHANNELS, CHANNELS, 3, 3, scale=0.1)}},
    "low rank": {"weights": {"convs.2.weight": LowRank(normal(1, CHANNELS, 2), normal(1, 2, CHANNELS * 9, seed=1))}},
    "bias": {"weights": {"torgbs.1.bias": normal(1, 3), "convs.1.affine.bias": normal(1, CHANNELS)}},
    "scales": {"scales": {"convs.4.weight": normal(1, CHANNELS, CHANNELS, 3, 3, scale=0.1)}},
    "styles": {"styles": {"convs.3": normal(1, CHANNELS), "torgbs.2": normal(1, CHANNELS, seed=2)}},
    "noise": {"noise": {3: normal(1, 1, 16, 16), 0: Masked(normal(1, 1, 4, 4), torch.ones(1, 1, 4, 4).double() / 2)}},
    "constant": {"const": normal(1, CHANNELS, 4, 4)},
}


@pytest.mark.parametrize("part", [*PARTS, "all of them"])
def test_it_renders_from_w_what_the_code_renders(g: Generator, part: str) -> None:
    fields = PARTS[part] if part in PARTS else {k: v for extra in PARTS.values() for k, v in extra.items()}
    code = Code(w_plus(g), **fields)  # type: ignore[arg-type]
    before = {name: tensor.clone() for name, tensor in g.state_dict().items()}
    own, left = bake(g, code)
    assert left == ()
    assert own.fingerprint != g.fingerprint
    torch.testing.assert_close(own.render(Code(code.w)), g.render(code), atol=1e-9, rtol=1e-9)
    assert not torch.allclose(own.render(Code(code.w)), g.render(Code(code.w)))
    assert all(torch.equal(before[name], tensor) for name, tensor in g.state_dict().items())


def test_what_no_file_can_hold_is_named(g: Generator) -> None:
    code = Code(w_plus(g), features={"act[2]": Feature(add=normal(1, CHANNELS, 8, 8))})
    own, left = bake(g, code)
    assert (own, left) == (g, ("features",))
    own, left = bake(g, replace(code, **PARTS["styles"]))  # type: ignore[arg-type]
    assert own is not g
    assert left == ("features",)


def test_other_programs_read_it(g: Generator, tmp_path: Path) -> None:
    code = Code(w_plus(g), **PARTS["dense weights"])  # type: ignore[arg-type]
    save_generator(bake(g, code)[0].float(), str(tmp_path / "own.pt"), "rosinality")
    back = open_generator(str(tmp_path / "own.pt"))
    torch.testing.assert_close(back.render(Code(code.w.float())).double(), g.render(code), atol=1e-4, rtol=1e-3)
