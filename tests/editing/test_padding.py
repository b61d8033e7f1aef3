"""Structure and style exchanged between inversions with rings of their own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.editing.padding import edit_like, transfer_structure, transfer_style
from ganinv.errors import ConfigError
from ganinv.generators.stylegan2 import Generator
from tests.tiny import random_w, tiny_generator


@pytest.fixture(scope="module")
def g() -> Generator:
    return tiny_generator()


def code(g: Generator, seed: int, count: int = 1) -> Code:
    rng = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=rng)

    return Code(w=random_w(g, count, seed), const=drawn(16, 4, 4), padding={0: drawn(16, 20), 2: drawn(16, 36)})


def test_both_halves_of_one_image_are_its_inversion(g: Generator) -> None:
    one = code(g, 1)
    for again in (transfer_structure(one, one), transfer_style(one, one), edit_like(one, code(g, 2), code(g, 2))):
        assert torch.equal(g.synthesize(again), g.synthesize(one))


def test_structure_and_style_are_two_views_of_one_exchange(g: Generator) -> None:
    one, other = code(g, 1), code(g, 2)
    mixed = transfer_structure(style=other, structure=one)
    assert torch.equal(g.synthesize(mixed), g.synthesize(transfer_style(structure=one, style=other)))
    assert torch.equal(mixed.w, other.w)
    assert mixed.const is one.const
    for whole in (one, other):
        assert (g.synthesize(mixed) - g.synthesize(whole)).abs().max() > 1e-3


def test_a_ring_and_some_rows_alone(g: Generator) -> None:
    one, other = code(g, 1), code(g, 2)
    mixed = transfer_structure(other, one, rings=[2])
    assert mixed.padding is not None
    assert other.padding is not None
    assert one.padding is not None
    assert torch.equal(mixed.padding[0], other.padding[0])
    assert torch.equal(mixed.padding[2], one.padding[2])
    assert mixed.const is other.const
    late = transfer_style(one, other, rows=(4, 8))
    assert torch.equal(late.w, torch.cat([one.w[:, :4], other.w[:, 4:]], 1))


def test_one_structure_for_many(g: Generator) -> None:
    many, one = code(g, 3, 3), code(g, 1)
    mixed = transfer_structure(many, one)
    for k in range(3):
        alone = g.synthesize(transfer_structure(many[k], one))
        torch.testing.assert_close(g.synthesize(mixed)[k : k + 1], alone, atol=1e-5, rtol=1e-5)


def test_a_pair_shows_an_edit_for_another_image(g: Generator) -> None:
    image, before, after = code(g, 1), code(g, 2), code(g, 3)
    moved = edit_like(image, before, after, style=0.5, structure=0.0)
    torch.testing.assert_close(moved.w, image.w + 0.5 * (after.w - before.w))
    assert torch.equal(g.synthesize(moved.with_w(image.w)), g.synthesize(image))
    full = edit_like(before, before, after)
    torch.testing.assert_close(g.synthesize(full), g.synthesize(after), atol=1e-4, rtol=1e-4)


def test_what_has_no_rings_is_refused(g: Generator) -> None:
    one, plain = code(g, 1), Code(w=random_w(g, 1))
    with pytest.raises(ConfigError, match="structure has no constant and rings"):
        transfer_structure(one, plain)
    with pytest.raises(ConfigError, match=r"no rings \[4\] in these codes; they have \[0, 2\]"):
        transfer_structure(one, one, rings=[0, 4])
    with pytest.raises(ConfigError, match=r"rows \[4, 9\) are not rows of W\+"):
        transfer_style(one, one, rows=(4, 9))
    with pytest.raises(ConfigError, match="2 and 3 codes"):
        transfer_structure(code(g, 1, 2), code(g, 1, 3))
    other = Code(w=one.w, const=one.const, padding={0: torch.zeros(1, 16, 20)})
    with pytest.raises(ConfigError, match="codes with other rings"):
        transfer_structure(one, other)
