"""Heads that are computed together, and sums in the memory of their first part."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from ganinv.methods.rows import ask
from ganinv.networks.blocks import ResidualBlock, RowHead
from ganinv.networks.heads import Map2Style


@pytest.mark.parametrize("made", [lambda side: RowHead(24, side, 16, hidden=8), lambda side: Map2Style(24, side, 24)])
def test_heads_say_together_what_each_says_alone(made: Callable[[int], RowHead | Map2Style]) -> None:
    torch.manual_seed(0)
    sides, levels = (8, 16, 32), (0, 0, 1, 2, 2, 2)
    maps = [torch.randn(3, 24, side, side, requires_grad=True) for side in sides]
    heads = [made(sides[level]) for level in levels]
    together = ask(heads, levels, maps)
    alone = [head(maps[level]) for head, level in zip(heads, levels, strict=True)]
    torch.testing.assert_close(together, alone)
    for head, (a, b) in zip(heads, zip(together, alone, strict=True), strict=True):
        parameters = list(head.parameters())
        gradients = (torch.autograd.grad(said.square().sum(), parameters, retain_graph=True) for said in (a, b))
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_a_block_of_half_the_bits_adds_to_features_of_all_bits() -> None:
    torch.manual_seed(0)
    block, x = ResidualBlock(8, 8), torch.randn(2, 8, 16, 16)
    before = x.clone()
    with torch.autocast("cpu", torch.bfloat16):
        y = block(x)
    assert y.dtype == torch.float32
    assert torch.equal(x, before)
