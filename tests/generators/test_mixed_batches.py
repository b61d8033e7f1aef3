"""One batch of codes that ask for different things renders what each of them renders alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ganinv.codes.code import Code, HeadCode, LowRank
from tests.generators.narrow import CHANNELS, extras_of, full_code, narrow_generator, normal, w_plus


@pytest.mark.seconds
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_a_mixed_batch_equals_single_runs(dtype: torch.dtype, tolerance: float) -> None:
    g = narrow_generator(dtype)
    codes = [Code(w=w_plus(g, seed=90)), full_code(g, 1, seed=91), full_code(g, 2, seed=300)]
    codes += [Code(w=w_plus(g, seed=i), **extra).to(dtype) for i, extra in enumerate(extras_of(1, seed=500).values())]
    joined = Code.cat(codes)
    images = g.synthesize(joined)
    alone = torch.cat([g.synthesize(c) for c in codes])
    scale = alone.abs().amax(dim=(1, 2, 3), keepdim=True)
    assert ((images - alone).abs() / scale).max() < tolerance
    # Taking the batch apart again gives every sample its own image.
    apart = torch.cat([g.synthesize(joined[i]) for i in range(len(joined))])
    assert ((apart - alone).abs() / scale).max() < tolerance
    again = torch.cat([g.synthesize(part) for part in (joined[:7], joined[[9, 8, 7]], joined[10:])])
    order = [*range(7), 9, 8, 7, *range(10, len(joined))]
    assert ((again - alone[order]).abs() / scale[order]).max() < tolerance


def test_forms_of_one_weight_join_in_the_dense_form() -> None:
    g = narrow_generator()
    name, shape = "convs.2.weight", (CHANNELS, CHANNELS, 3, 3)
    head = extras_of()["hypernetwork codes"]["scales"][name]
    forms = [
        normal(1, *shape, scale=0.1),
        LowRank(normal(1, CHANNELS, 2), normal(1, 2, CHANNELS * 9)),
        LowRank(normal(1, CHANNELS, 3), normal(1, 3, CHANNELS * 9)),
        head,
    ]
    codes = [Code(w=w_plus(g, seed=i), scales={name: form}) for i, form in enumerate(forms)] + [Code(w=w_plus(g))]
    for some in (codes, codes[1:], codes[1:3], codes[3:]):
        images = g.synthesize(Code.cat(some))
        torch.testing.assert_close(images, torch.cat([g.synthesize(c) for c in some]), atol=1e-12, rtol=1e-12)
    assert isinstance(Code.cat(codes[1:3]).scales[name], LowRank)
    assert isinstance(Code.cat(codes[3:]).scales[name], HeadCode)
    assert isinstance(Code.cat(codes).scales[name], torch.Tensor)
    unbound = Code(w=w_plus(g), scales={name: HeadCode(head.code, head.passes)})
    with pytest.raises(ValueError, match="without their heads can only be joined with each other"):
        Code.cat([codes[1], unbound])
    bound = Code.cat([unbound, unbound]).with_heads({name: head.head})
    torch.testing.assert_close(g.synthesize(bound)[:1], g.synthesize(Code(w=w_plus(g), scales={name: head})))


def test_what_a_batch_shares_stays_shared() -> None:
    noise = torch.zeros(1, 1, 4, 4)
    code = Code(w=torch.zeros(4, 8, 8), noise={0: noise})
    joined = Code.cat([code[:2], code[2:]])
    assert joined.noise[0] is noise
    other = Code.cat([code, Code(w=torch.zeros(1, 8, 8), noise={0: noise + 1})])
    assert other.noise[0].shape == (5, 1, 4, 4)


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        ({}, {"w": torch.zeros(1, 6, 8)}, "w"),
        ({"const": torch.zeros(1, 8, 4, 4)}, {"const": torch.zeros(1, 4, 4, 4)}, "const"),
        ({"padding": {0: torch.zeros(1, 8, 20)}}, {"padding": {0: torch.zeros(1, 4, 20)}}, r"padding\[0\]"),
    ],
)
def test_codes_of_different_generators_do_not_join(one: dict[str, Any], other: dict[str, Any], what: str) -> None:
    w = torch.zeros(1, 8, 8)
    with pytest.raises(ValueError, match=f"different shapes cannot be joined: {what}"):
        Code.cat([Code(**({"w": w} | one)), Code(**({"w": w} | other))])
