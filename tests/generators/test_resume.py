"""Stopping, going on, capturing; and features of one image in the pass of another."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ganinv.codes.code import Code, Feature, Masked
from ganinv.generators.synthesis import SynthesisState
from tests.generators.narrow import CHANNELS, full_code, narrow_generator, normal, w_plus

EXACT = {"atol": 1e-12, "rtol": 1e-12}


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_two_halves_are_the_whole_at_every_layer(architecture: str) -> None:
    g = narrow_generator(architecture=architecture)
    code = full_code(g, 2) if architecture == "skip" else Code(w=w_plus(g, 2))
    whole = g.synthesize(code)
    for k in range(g.cfg.num_convs):
        state = g.synthesize(code, stop=k)
        assert isinstance(state, SynthesisState)
        assert state.k == k
        torch.testing.assert_close(g.synthesize(code, start=state), whole, atol=0, rtol=0)
        for j in range(k, g.cfg.num_convs):
            middle = g.synthesize(code, start=state, stop=j)
            torch.testing.assert_close(g.synthesize(code, start=middle), whole, atol=0, rtol=0)


def test_a_plain_tuple_starts_a_pass() -> None:
    g = narrow_generator()
    code = Code(w=w_plus(g))
    k, x, image, _ = g.synthesize(code, stop=3)
    torch.testing.assert_close(g.synthesize(code, start=(k, x, image)), g.synthesize(code), atol=0, rtol=0)


def test_going_on_in_float16() -> None:
    g = narrow_generator(torch.float32, num_fp16_res=2)
    g.precision = "native-float16"
    code = Code(w=w_plus(g))
    whole = g.synthesize(code)
    for k, dtype in ((2, torch.float32), (3, torch.float16), (4, torch.float16)):
        state = g.synthesize(code, stop=k)
        assert state.x.dtype == dtype
        assert torch.equal(g.synthesize(code, start=state), whole)
    g.precision = "float32"
    assert g.synthesize(code, start=state, stop=6).x.dtype == torch.float32


def test_capture_gives_what_hooks_were_given_and_what_they_made() -> None:
    g = narrow_generator()
    code = full_code(g)
    ks = range(g.cfg.num_convs)
    sites = [f"act[{k}]" for k in ks] + [f"{kind}[{k}]" for kind in ("block", "image") for k in ks if k % 2 == 0]
    both = [*sites, *(f"{s}.before" for s in sites)]
    image, seen = g.synthesize(code, capture=both)
    assert set(seen) == set(both)
    assert torch.equal(image, g.synthesize(code))
    assert torch.equal(seen["image[6]"], image)
    hooked = {s for s in sites if not torch.equal(seen[s], seen[f"{s}.before"])}
    assert hooked == {"act[1]", "act[3]", "block[2]", "block[4]", "image[0]"}
    for k in ks:
        state = g.synthesize(code, stop=k)
        assert torch.equal(state.x, seen[f"block[{k}]" if k % 2 == 0 else f"act[{k}]"])
    state, part = g.synthesize(code, capture=["act[2]", "act[5]"], stop=3)
    assert set(part) == {"act[2]"}


@pytest.mark.parametrize("k", [0, 2, 4, 6])
def test_features_of_one_image_in_the_pass_of_another(k: int) -> None:
    """``replace`` at block[k] with mask 1 is A up to k, then B; the RGB below stays B's unless it is carried too."""
    g = narrow_generator()
    a, b = w_plus(g, seed=1), w_plus(g, seed=2)
    upper = Code(w=torch.cat([normal(1, k + 1, g.w_dim, seed=3), b[:, k + 1 :]], dim=1))
    sites = [f"block[{k}]", f"image[{k}]"]
    _, of_a = g.synthesize(Code(w=a), capture=sites)
    _, of_b = g.synthesize(upper, capture=sites)
    features, image_a, image_b = of_a[f"block[{k}]"], of_a[f"image[{k}]"], of_b[f"image[{k}]"]
    mask = torch.ones(1, 1, 4 * 2 ** (k // 2), 4 * 2 ** (k // 2), dtype=torch.float64)

    hook = Feature(replace=Masked(features, mask))
    mixed = g.synthesize(replace(upper, features={f"block[{k}]": hook}))
    torch.testing.assert_close(mixed, g.synthesize(upper, start=(k, features, image_b)), **EXACT)

    carried = g.synthesize(replace(upper, features={f"block[{k}]": replace(hook, image=image_a)}))
    torch.testing.assert_close(carried, g.synthesize(upper, start=(k, features, image_a)), **EXACT)
    assert not torch.allclose(mixed, carried)

    # With A's rows up to k and B's from k + 1, the toRGB of block k reads B's row: style mixing in W+.
    rows = Code(w=torch.cat([a[:, : k + 1], b[:, k + 1 :]], dim=1))
    _, of_rows = g.synthesize(rows, capture=sites)
    torch.testing.assert_close(of_rows[f"block[{k}]"], features, **EXACT)
    with_rgb = g.synthesize(replace(upper, features={f"block[{k}]": replace(hook, image=of_rows[f"image[{k}]"])}))
    torch.testing.assert_close(with_rgb, g.synthesize(rows), **EXACT)


def test_outside_the_mask_nothing_is_taken_over() -> None:
    g = narrow_generator()
    w, value = w_plus(g), normal(1, CHANNELS, 16, 16)
    mask = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    mask[..., :8] = 1
    _, seen = g.synthesize(Code(w=w, features={"block[4]": Feature(replace=Masked(value, mask))}), capture=["block[4]"])
    _, plain = g.synthesize(Code(w=w), capture=["block[4]"])
    assert torch.equal(seen["block[4]"][..., :8], value[..., :8])
    assert torch.equal(seen["block[4]"][..., 8:], plain["block[4]"][..., 8:])


def test_refusals_say_what_was_expected() -> None:
    g = narrow_generator()
    code = Code(w=w_plus(g, 2))
    state = g.synthesize(code, stop=3)
    with pytest.raises(ValueError, match="stop must be a convolution of this generator, 0 to 6, got 7"):
        g.synthesize(code, stop=7)
    with pytest.raises(ValueError, match="start must be a convolution from 0 to 2, where this pass stops, got 3"):
        g.synthesize(code, start=state, stop=2)
    with pytest.raises(ValueError, match=r"needs x of shape \(2, 8, 16, 16\), got \(1, 8, 16, 16\)"):
        g.synthesize(code, start=(3, state.x[:1], state.image))
    with pytest.raises(ValueError, match=r"needs image of shape \(2, 3, 8, 8\), got None"):
        g.synthesize(code, start=(3, state.x, None))
    with pytest.raises(ValueError, match=r"unknown capture sites \['image\[3\]'\]"):
        g.synthesize(code, capture=["image[3]"])
    resnet = narrow_generator(architecture="resnet")
    with pytest.raises(ValueError, match=r"needs skip of shape \(2, 8, 16, 16\), got None"):
        resnet.synthesize(code, start=(3, state.x, None))
