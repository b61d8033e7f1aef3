"""Segments of a code: the composite, joining, and what the synthesis makes of them (ChunkyGAN)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ganinv.codes.code import Code, Segments
from ganinv.errors import ConfigError
from tests.generators.narrow import full_code, narrow_generator, normal, w_plus

G = narrow_generator()
R = G.resolution


def halves() -> Tensor:
    """Two hard masks [1, 2, 1, R, R]: left and right, with a strip of four columns in neither."""
    masks = torch.zeros(1, 2, 1, R, R, dtype=torch.float64)
    masks[:, 0, :, :, : R // 2 - 2] = 1
    masks[:, 1, :, :, R // 2 + 2 :] = 1
    return masks


def soft(batch: int, count: int, seed: int = 0) -> Tensor:
    """Masks [B, K, 1, R, R] that sum to 1."""
    return normal(batch, count, 1, R, R, seed=seed).softmax(1)


def segmented(batch: int = 2, count: int = 3, seed: int = 0, **more: Tensor) -> Code:
    w = 0.5 * normal(batch, count, G.num_ws, G.w_dim, seed=seed + 1)
    return Code(w_plus(G, batch, seed), segments=Segments(soft(batch, count, seed), w, **more))


def photo(batch: int = 1) -> Tensor:
    return normal(batch, 3, R, R, seed=77).clamp(-1, 1)


def test_the_composite_of_the_photo_is_the_photo() -> None:
    target = photo(2)
    for masks in (soft(2, 3), halves().expand(2, -1, -1, -1, -1), 0.3 * soft(2, 3)):
        segments = Segments(masks, torch.zeros(2, masks.shape[1], 1, 1), background=target)
        torch.testing.assert_close(segments.composite([target] * masks.shape[1]), target, atol=1e-12, rtol=0)


def test_outside_all_masks_the_photo_stays_to_the_bit() -> None:
    target = photo()
    code = Code(w_plus(G), segments=Segments(halves(), normal(1, 2, G.num_ws, G.w_dim, seed=4), background=target))
    image = G.synthesize(code)
    strip = slice(R // 2 - 2, R // 2 + 2)
    assert torch.equal(image[..., strip], target[..., strip])
    assert (image[..., :4] - target[..., :4]).abs().min() > 0
    bare = G.synthesize(replace(code, segments=replace(code.segments, background=None)))
    assert bare[..., strip].abs().max() == 0


def test_each_segment_shows_its_own_rendering() -> None:
    code = Code(w_plus(G), segments=Segments(halves(), normal(1, 2, G.num_ws, G.w_dim, seed=4), background=photo()))
    image = G.synthesize(code)
    for k, part in enumerate((slice(0, R // 2 - 2), slice(R // 2 + 2, R))):
        alone = G.synthesize(Code(code.w + code.segments.w[:, k]))
        assert torch.equal(image[..., part], alone[..., part])
        torch.testing.assert_close(alone, G.synthesize(code.segment(str(k))), atol=0, rtol=0)


def test_masks_that_overlap_are_normalised() -> None:
    target = photo()
    segments = Segments(3 * soft(1, 2), torch.zeros(1, 2, 1, 1), background=normal(1, 3, R, R))
    torch.testing.assert_close(segments.composite([target, target]), target, atol=1e-12, rtol=0)
    torch.testing.assert_close(segments.shares(), soft(1, 2), atol=1e-12, rtol=0)


def test_a_segment_in_s_is_an_offset_to_the_styles() -> None:
    code = full_code(G, 2, seed=3)
    name = next(iter(code.styles))
    offset = normal(2, 2, code.styles[name].shape[1], seed=8)
    segments = Segments(halves(), torch.zeros(1, 2, G.num_ws, G.w_dim).double(), {name: offset, "torgbs.0": offset})
    image = G.synthesize(replace(code, segments=segments))
    styles = {**code.styles, name: code.styles[name] + offset[:, 1]}
    styles["torgbs.0"] = styles["torgbs.0"] + offset[:, 1] if "torgbs.0" in styles else offset[:, 1]
    right = G.synthesize(replace(code, styles=styles))
    assert torch.equal(image[..., R // 2 + 2 :], right[..., R // 2 + 2 :])


def test_the_code_s_other_extras_hold_for_every_segment() -> None:
    code = full_code(G, 2, seed=3)
    same = Segments(soft(2, 3), torch.zeros(1, 3, G.num_ws, G.w_dim, dtype=torch.float64))
    torch.testing.assert_close(G.synthesize(replace(code, segments=same)), G.synthesize(code), atol=1e-10, rtol=1e-10)


def test_pixels_of_one_segment_have_no_gradient_in_another() -> None:
    w = normal(1, 2, G.num_ws, G.w_dim, seed=4).requires_grad_(True)
    image = G.synthesize(Code(w_plus(G), segments=Segments(halves(), w, background=photo())))
    (gradient,) = torch.autograd.grad(image[..., : R // 2 - 2].square().sum(), w)
    assert gradient[:, 0].abs().max() > 0
    assert gradient[:, 1].count_nonzero() == 0


def test_mixed_batches_render_what_their_codes_render_alone() -> None:
    plain, tuned = Code(w_plus(G, 2, seed=20)), full_code(G, 1, seed=3)
    named = replace(segmented(1, 2, seed=9).segments, names=("hair", "1"))
    codes = [
        plain,
        segmented(2, 3),
        replace(tuned, segments=segmented(1, 2, seed=5).segments),
        tuned,
        Code(w_plus(G, 1, seed=6), segments=replace(named, background=photo(), masks=0.5 * named.masks)),
    ]
    joined = Code.cat(codes)
    assert joined.segments.names == ("0", "1", "2", "hair")
    alone = torch.cat([G.synthesize(c) for c in codes])
    torch.testing.assert_close(G.synthesize(joined), alone, atol=1e-10, rtol=1e-10)
    apart = torch.cat([G.synthesize(joined[i]) for i in range(len(joined))])
    torch.testing.assert_close(apart, alone, atol=1e-10, rtol=1e-10)
    again = G.synthesize(Code.cat([joined[4:], joined[:2]]))
    torch.testing.assert_close(again, torch.cat([alone[4:], alone[:2]]), atol=1e-10, rtol=1e-10)


def test_what_a_batch_shares_stays_shared() -> None:
    masks, w = halves(), torch.zeros(1, 2, G.num_ws, G.w_dim)
    code = Code(w_plus(G, 4), segments=Segments(masks, w))
    assert Code.cat([code[:2], code[2:]]).segments.masks is masks


def test_moving_w_moves_all_segments_and_moved_one() -> None:
    code = segmented(2, 3)
    step = normal(2, G.num_ws, G.w_dim, seed=30)
    everywhere = code.with_w(code.w + step)
    one = replace(code, segments=code.segments.moved("1", step))
    for k in range(3):
        torch.testing.assert_close(everywhere.segment(k).w, code.segment(k).w + step)
        torch.testing.assert_close(one.segment(k).w, code.segment(k).w + (step if k == 1 else 0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": torch.ones(2, 3, 1, R, R // 2)}, r"must have the shape \[2 or 1, 3, 1, 32, 32\], got \[2, 3, 1, 32, 16\]"),
        ({"w": torch.ones(3, 3, G.num_ws, G.w_dim)}, r"segments.w must have the shape \[2 or 1, 3, 8, 8\]"),
        ({"background": torch.ones(1, 1, R, R)}, r"segments.background must have the shape \[2 or 1, 3, 32, 32\]"),
        ({"styles": {"convs.9": torch.ones(2, 3, 8)}}, r"styles\['convs.9'\]"),
        ({"styles": {"convs.1": torch.ones(2, 2, 8)}}, r"segments.styles\['convs.1'\] must have the shape"),
    ],
)  # fmt: skip
def test_segments_that_do_not_fit_are_refused(change: dict[str, Tensor], message: str) -> None:
    code = segmented(2, 3)
    with pytest.raises(ValueError, match=message):
        G.synthesize(replace(code, segments=replace(code.segments, **change)))


def test_refusals() -> None:
    code = segmented(1, 2)
    for more in ({"capture": ["act[1]"]}, {"stop": 2}, {"start": (0, torch.zeros(1, 8, 4, 4), None)}):
        with pytest.raises(ValueError, match=r"code\.segment\(k\)"):
            G.synthesize(code, **more)
    with pytest.raises(ConfigError, match="no segment 'hair'; there are: 0, 1, or 0 to 1"):
        code.segment("hair")
    with pytest.raises(ConfigError, match="this code has no segments"):
        Code(code.w).segment(0)
    for names in (("a",), ("a", "a"), ("a", "b.c")):
        with pytest.raises(ValueError, match="as many different names"):
            replace(code.segments, names=names)
    with pytest.raises(ValueError, match=r"masks \[batch, K, 1, R, R\]"):
        Segments(torch.zeros(1, 2, R, R), torch.zeros(1, 2, 8, 8))
    with pytest.raises(ValueError, match="cannot be joined: segments"):
        Code.cat([code, replace(code, segments=replace(code.segments, masks=torch.ones(1, 2, 1, 8, 8)))])
