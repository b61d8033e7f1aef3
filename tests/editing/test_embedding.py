"""Image2StyleGAN++ as operations: blocks, masks, and what each application promises."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.editing.activation_tensors import copy_activations
from ganinv.editing.applications import crossover, inpaint, local_style, reconstruct, scribble, transfer
from ganinv.editing.embedding import Embedder, EmbeddingConfig, ImagePart
from ganinv.editing.masks import blurred, box, shrunk
from ganinv.errors import ConfigError, NotFinite
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.distance import between, open_distance
from ganinv.metrics import psnr
from ganinv.stages.variables import original_noise
from tests.tiny import random_w, tiny_generator

R = 32


@pytest.fixture(scope="module")
def g() -> Generator:
    return tiny_generator(R)


@pytest.fixture(scope="module")
def embedder(g: Generator) -> Embedder:
    return Embedder(g, EmbeddingConfig(steps=12, noise_steps=12), lanes=4)


@pytest.fixture(scope="module")
def x(g: Generator) -> Tensor:
    return g.render(Code(w=random_w(g, 2, seed=3))).clamp(-1, 1)


@pytest.fixture(scope="module")
def y(g: Generator) -> Tensor:
    return g.render(Code(w=random_w(g, 2, seed=4))).clamp(-1, 1)


def error(rendered: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error inside a mask, per image."""
    return ((rendered - image).square() * mask).sum(dim=(1, 2, 3)) / (3 * mask.sum())


def test_masks() -> None:
    mask = box(R, 0.25, 0.5, 0.75, 1.0)
    assert mask.shape == (1, 1, R, R)
    assert mask.sum() == 16 * 16
    assert mask[0, 0, 8:24, 16:].min() == 1
    soft = blurred(mask, 2.0)
    assert soft[0, 0, 16, 15] + soft[0, 0, 16, 16] == pytest.approx(1.0, abs=1e-5)  # an edge is half on either side
    assert soft[0, 0, 16, 31] == pytest.approx(1.0)  # and there is none at the rim
    assert torch.equal(blurred(mask, 0), mask)
    torch.testing.assert_close(blurred(torch.ones(1, 1, R, R)), torch.ones(1, 1, R, R))
    assert shrunk(mask, 4).tolist() == [[[[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]]]]


@pytest.mark.seconds
def test_latent_then_noise(embedder: Embedder, g: Generator, x: Tensor) -> None:
    first = embedder.latent([ImagePart(x)])
    second = embedder.noise([ImagePart(x)], first)
    assert first.noise is None
    assert torch.equal(second.w, first.w)
    assert (psnr(g.render(second), x) > psnr(g.render(first), x)).all()
    assert torch.equal(g.render(original_noise(second, g)), g.render(first))
    assert torch.equal(reconstruct(embedder, x).w, first.w)


@pytest.mark.seconds
def test_rows_and_space_limit_the_latent(embedder: Embedder, g: Generator, x: Tensor) -> None:
    w = embedder.latent([ImagePart(x)], rows=(1, 3)).w
    mean = g.w_mean.expand(2, 1, -1)
    assert torch.equal(w[:, :1], mean)
    assert torch.equal(w[:, 3:], mean.expand(-1, g.num_ws - 3, -1))
    assert (w[:, 1:3] - mean).abs().amin(dim=(1, 2)).max() > 0
    w = embedder.latent([ImagePart(x)], space="w").w
    assert torch.equal(w, w[:, :1].expand_as(w))


@pytest.mark.seconds
def test_a_partial_embedding_does_not_look_outside(embedder: Embedder, g: Generator, x: Tensor, y: Tensor) -> None:
    """The squared error alone: what is outside the mask has no say at all, in the latent or in the noise."""
    pixels = embedder.cfg.loss.model_copy(update={"distance_weight": 0.0})
    own = Embedder(g, embedder.cfg.model_copy(update={"loss": pixels}), lanes=4)
    mask = box(R, 0, 0, 0.5, 1)
    code, other = (reconstruct(own, image, mask) for image in (x, torch.where(mask > 0, x, y)))
    assert torch.equal(code.w, other.w)
    assert all(torch.equal(code.noise[k], other.noise[k]) for k in code.noise)
    mean = g.render(Code(w=g.w_mean.expand(2, g.num_ws, -1)))
    assert (error(g.render(code), x, mask) < error(mean, x, mask)).all()


@pytest.mark.seconds
def test_crossover(embedder: Embedder, g: Generator, x: Tensor, y: Tensor) -> None:
    mask = blurred(box(R, 0, 0, 1, 0.5))
    code = crossover(embedder, x, y, mask)
    mixed, ones = g.render(code), torch.ones_like(mask)
    assert error(mixed, x, mask).mean() < error(mixed, y, mask).mean()
    assert error(mixed, y, 1 - mask).mean() < error(mixed, x, 1 - mask).mean()
    for m, image in ((ones, x), (0 * ones, y)):
        only = crossover(embedder, x, y, m)
        alone = reconstruct(embedder, image)
        torch.testing.assert_close(g.render(only), g.render(alone), atol=2e-2, rtol=0)  # rounding, many steps later
        assert (g.render(only) - mixed).abs().max() > 0.05


@pytest.mark.seconds
@pytest.mark.parametrize("rows", [None, (0, 4)])
def test_inpainting_does_not_look_into_the_hole(
    embedder: Embedder, g: Generator, x: Tensor, y: Tensor, rows: tuple[int, int] | None
) -> None:
    hole = box(R, 0.5, 0.25, 0.8, 0.75)
    first = inpaint(embedder, x, hole, rows)
    second = inpaint(embedder, torch.where(hole > 0, y, x), hole, rows)
    assert torch.equal(first.w, second.w)
    assert all(torch.equal(first.noise[k], second.noise[k]) for k in first.noise)
    # Maps stay as they are at every position that is not wholly outside the hole.
    for k, layer in enumerate(g.synthesis.convs):
        inside = (shrunk(hole, layer.resolution) > 0).expand(2, 1, -1, -1)
        assert torch.equal(first.noise[k][inside], layer.noise.expand(2, 1, -1, -1)[inside])
    assert (first.noise[6] - g.synthesis.convs[6].noise).abs().max() > 0.1
    plain = g.render(original_noise(first, g))
    seen = 1 - hole
    assert (error(g.render(first), x, seen) < 0.7 * error(plain, x, seen)).all()


@pytest.mark.seconds
def test_local_style(embedder: Embedder, g: Generator, x: Tensor, y: Tensor) -> None:
    """Outside the mask the Gram matrices come closer to the style's; inside, the content stays."""
    mask = box(R, 0, 0, 1, 0.5)
    start = embedder.latent([ImagePart(x)])
    gram = open_distance("gram-embedded", g)

    def apart(code: Code) -> Tensor:
        laid = mask * y + (1 - mask) * g.render(code)
        return between(gram.features(laid), gram.features(y))

    code = local_style(embedder, x, y, mask, start, weight=100.0)
    assert (apart(original_noise(code, g)) < 0.8 * apart(start)).all()
    assert (error(g.render(code), x, mask) < error(g.render(code), y, mask)).all()


@pytest.mark.seconds
def test_scribbles_move_the_drawn_region_and_few_rows(embedder: Embedder, g: Generator, x: Tensor) -> None:
    start = embedder.latent([ImagePart(x)])
    where = box(R, 0.4, 0.25, 0.5, 0.75)
    drawn = torch.where(where > 0, -0.9, x)
    code = scribble(embedder, x, drawn, start, rows=(2, 6), steps=12)
    assert torch.equal(code.w[:, :2], start.w[:, :2])
    assert torch.equal(code.w[:, 6:], start.w[:, 6:])
    assert (error(g.render(code), drawn, where) < error(g.render(start), drawn, where)).all()
    assert (error(g.render(code), x, 1 - where) < error(g.render(original_noise(code, g)), x, 1 - where)).all()


@pytest.mark.seconds
def test_copied_activations_are_those_of_the_source(g: Generator, embedder: Embedder) -> None:
    code, source = (Code(w=random_w(g, 2, seed=s)) for s in (1, 2))
    mask = box(R, 0, 0, 0.5, 1)
    sites = ["act[2]", "act[4]"]
    copied = copy_activations(g, code, source, (2, 4), mask)
    _, got = g.synthesize(copied, capture=[*sites, "act[4].before"])
    _, given = g.synthesize(source, capture=sites)
    _, own = g.synthesize(code, capture=sites)
    for site in sites:
        half = got[site].shape[-1] // 2
        assert torch.equal(got[site][:, :, :half], given[site][:, :, :half])
    assert torch.equal(got["act[2]"][:, :, 4:], own["act[2]"][:, :, 4:])
    assert torch.equal(got["act[4]"][:, :, 8:], got["act[4].before"][:, :, 8:])
    whole = copy_activations(g, code, source, [6], torch.ones(1, 1, R, R))
    _, all_of_it = g.synthesize(whole, capture=["act[6]"])
    _, want = g.synthesize(source, capture=["act[6]"])
    assert torch.equal(all_of_it["act[6]"], want["act[6]"])
    faint = copy_activations(g, code, source, (2,), mask, strength=0.5)
    _, blend = g.synthesize(faint, capture=["act[2]"])
    torch.testing.assert_close(blend["act[2]"][:, :, :4], (own["act[2]"] + given["act[2]"])[:, :, :4] / 2)
    assert torch.equal(g.render(copy_activations(g, code, source, (2, 4), 0 * mask)), g.render(code))
    again = transfer(embedder, code, source, (2, 4), mask)
    assert again.features is None
    with pytest.raises(ValueError, match="unknown capture sites"):
        copy_activations(g, code, source, (7,), mask)


@pytest.mark.seconds
def test_images_of_a_batch_do_not_meet(embedder: Embedder, g: Generator, x: Tensor, y: Tensor) -> None:
    mask = blurred(box(R, 0, 0, 1, 0.5))
    together = crossover(embedder, x, y, mask)
    alone = crossover(embedder, x[1:], y[1:], mask)
    assert torch.equal(together.w[1:], alone.w)
    assert all(torch.equal(together.noise[k][1:], alone.noise[k]) for k in alone.noise)


@pytest.mark.seconds
def test_what_does_not_fit_is_refused(embedder: Embedder, x: Tensor) -> None:
    with pytest.raises(ConfigError, match=r"images must be \[B, 3, 32, 32\], got \[2, 3, 16, 16\]"):
        embedder.latent([ImagePart(x[:, :, ::2, ::2])])
    with pytest.raises(ConfigError, match=r"mask of these images must be \[2 or 1, 1, 32, 32\]"):
        embedder.latent([ImagePart(x, torch.ones(1, 3, R, R))])
    with pytest.raises(ConfigError, match="one batch each"):
        embedder.latent([ImagePart(x), ImagePart(x[:1])])
    broken = x.clone()
    broken[1, 0, 0, 0] = float("nan")
    with pytest.raises(NotFinite, match=r"images \[1\] of this batch"):
        embedder.latent([ImagePart(broken)])


@pytest.mark.seconds
def test_a_generator_without_noise_gets_a_strength(x: Tensor) -> None:
    g = tiny_generator(R)
    for conv in g.synthesis.convs:
        conv.noise_strength.data.zero_()
    embedder = Embedder(g, EmbeddingConfig(steps=10, noise_steps=25), lanes=4)
    hole = box(R, 0.5, 0.25, 0.8, 0.75)
    code = inpaint(embedder, x, hole)
    plain = g.render(replace(code, noise=None, weights=None))
    assert torch.equal(g.render(original_noise(code, g)), plain)
    assert (error(g.render(code), x, 1 - hole) < 0.7 * error(plain, x, 1 - hole)).all()
    inside = (shrunk(hole, R) > 0).expand(2, 1, -1, -1)
    assert not code.noise[6][inside].any()
