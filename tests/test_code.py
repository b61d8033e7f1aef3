"""``Code``: slicing, joining and moving work on the whole of it."""

from __future__ import annotations

import pytest
import torch

from ganinv.codes.code import Code, LowRank


def full(batch: int, rank: int = 2, seed: int = 0) -> Code:
    torch.manual_seed(seed)
    return Code(
        w=torch.randn(batch, 4, 3),
        noise={1: torch.randn(batch, 1, 8, 8)},
        styles={"convs.1": torch.randn(batch, 5)},
        weights={
            "convs.1.weight": LowRank(torch.randn(batch, 5, rank), torch.randn(batch, rank, 18)),
            "const": torch.randn(batch, 2, 4, 4),
        },
    )


def same(a: Code, b: Code) -> None:
    torch.testing.assert_close(a.w, b.w)
    assert (a.noise or {}).keys() == (b.noise or {}).keys()
    for k in a.noise or {}:
        torch.testing.assert_close(a.noise[k], b.noise[k])
    for k in a.styles or {}:
        torch.testing.assert_close(a.styles[k], b.styles[k])
    for k, v in (a.weights or {}).items():
        if isinstance(v, LowRank):
            shape = (5, 2, 3, 3)
            torch.testing.assert_close(v.dense(shape), b.weights[k].dense(shape))
        else:
            torch.testing.assert_close(v, b.weights[k])


def test_slices_join_to_the_whole() -> None:
    code = full(5)
    same(Code.cat([code[:2], code[2], code[[3, 4]]]), code)
    assert len(code[torch.tensor([4, 0])]) == 2
    same(code[-1], code[4])


def test_joining_fills_missing_offsets_with_zero() -> None:
    plain, tuned = Code(w=torch.randn(2, 4, 3)), full(1)
    plain = Code(w=plain.w, noise={1: torch.randn(2, 1, 8, 8)})
    joined = Code.cat([plain, tuned])
    assert joined.weights["const"][:2].abs().max() == 0
    assert joined.weights["convs.1.weight"].dense((5, 2, 3, 3))[:2].abs().max() == 0
    same(joined[2], tuned)


def test_joining_low_rank_offsets_of_different_rank() -> None:
    a, b = full(1, rank=1), full(2, rank=3, seed=1)
    joined = Code.cat([a, b])
    same(joined[0], a)
    same(joined[1:], b)


def test_joining_given_and_stored_noise_keeps_both() -> None:
    plain, given = Code(w=torch.zeros(2, 4, 3)), full(1)
    noise = Code.cat([plain, given]).noise[1]
    assert noise.mask.flatten().tolist() == [0, 0, 1]
    torch.testing.assert_close(noise.value[2:], given.noise[1])


def test_w_must_have_three_dimensions() -> None:
    with pytest.raises(ValueError, match=r"\[batch, num_ws, w_dim\], got shape \(4, 3\)"):
        Code(w=torch.zeros(4, 3))


def test_edits_keep_the_extras() -> None:
    code = full(2)
    moved = code.with_w(code.w + 1)
    assert moved.weights is code.weights
    torch.testing.assert_close(moved.w - code.w, torch.ones_like(code.w))
