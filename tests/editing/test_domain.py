"""Offsets of one generator on another that was fine-tuned from it."""

from __future__ import annotations

import copy

import pytest
import torch

from ganinv.codes.code import Code
from ganinv.editing.domain import adapt
from ganinv.errors import ConfigError, GeneratorMismatch
from ganinv.generators.stylegan2 import Generator
from tests.encoders.test_hyperstyle import small
from tests.tiny import random_w, tiny_generator


@pytest.fixture(scope="module")
def source() -> Generator:
    return tiny_generator()


@pytest.fixture(scope="module")
def target(source: Generator) -> Generator:
    moved = copy.deepcopy(source)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in moved.synthesis.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
    return moved


@pytest.fixture(scope="module")
def code(source: Generator) -> Code:
    hyperstyle = small(source, layers=["convs.*", "torgbs.*"])
    rng = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in hyperstyle.parameters():
            if not parameter.any():
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=rng))
        return hyperstyle(torch.rand(2, 3, 32, 32))


def test_the_target_never_changes_the_offsets(source: Generator, target: Generator, code: Code) -> None:
    """Those of half the side and above, by the same numbers whichever generator renders."""
    ours, theirs = adapt(code, source, start="1/2"), adapt(code, target, start="1/2")
    kept = {f"convs.{k}.weight" for k in (3, 4, 5, 6)} | {"torgbs.2.weight", "torgbs.3.weight"}
    assert theirs.scales is not None
    assert ours.scales is not None
    assert set(theirs.scales) == kept
    for name, offset in theirs.scales.items():
        assert offset is (code.scales or {})[name]
        assert offset is ours.scales[name]
    picture, plain = target.synthesize(theirs), target.synthesize(Code(w=code.w))
    assert (picture - plain).abs().max() > 1e-3
    assert (picture - source.synthesize(ours)).abs().max() > 1e-2


def test_all_offsets_on_the_source_are_the_inversion(source: Generator, code: Code) -> None:
    assert torch.equal(source.synthesize(adapt(code, source, start="0")), source.synthesize(code))


def test_the_latent_may_be_of_another_inversion(target: Generator, code: Code) -> None:
    other = Code(w=random_w(target, 2, 9))
    assert torch.equal(adapt(code, target, latent=other).w, other.w)
    with pytest.raises(ConfigError, match="2 and 1 were given"):
        adapt(code, target, latent=other[:1])


def test_what_does_not_fit_is_refused(target: Generator, code: Code) -> None:
    with pytest.raises(ConfigError, match="no weight offsets"):
        adapt(Code(w=code.w), target)
    with pytest.raises(ConfigError, match="share of the output's side"):
        adapt(code, target, start="2")
    with pytest.raises(GeneratorMismatch, match="codes of 8x16 do not fit generator 'tiny', which takes 10x16"):
        adapt(code, tiny_generator(64))
