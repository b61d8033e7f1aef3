"""Low-rank weight offsets give what the same offsets in their dense form give, at a lower price."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ganinv.codes.code import Code, LowRank
from ganinv.codes.parts import dense
from ganinv.generators import low_rank
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.layers import FIR, modulated_conv2d
from ganinv.generators.stylegan2 import Generator
from tests.generators.narrow import narrow_generator, normal, w_plus

WIDE = {"channels": (16, 16, 16), "resolution": 16, "w_dim": 8}  # wide enough for ranks 1 to 3
FORMS: list[dict[str, Any]] = [{}, {"up": True}, {"ring": True}, {"demodulate": False}, {"kernel": 1}]


def layer(
    batches: tuple[int, int] = (2, 2), up: bool = False, ring: bool = False, kernel: int = 3, rank: int = 2
) -> tuple[list[Tensor], Tensor, dict[str, Any]]:
    """Of a layer of 4 to 5 channels, float64: (input, style, left, right), weight, and what else it is given."""
    inputs = [
        normal(2, 4, 6, 6),
        normal(2, 4, seed=1),
        normal(batches[0], 5, rank, seed=2),
        normal(batches[1], rank, 4 * kernel * kernel, seed=3),
    ]
    options: dict[str, Any] = {"up": up, "fir": FIR(gain=4.0).double() if up else None}
    if ring:
        options["ring"] = normal(2, 4, 28, seed=4)
    return inputs, normal(5, 4, kernel, kernel, seed=5), options


def per_sample(weight: Tensor, left: Tensor, right: Tensor) -> Tensor:
    return weight + LowRank(left, right).dense(weight.shape).expand(2, *weight.shape)


@pytest.mark.parametrize("batches", [(2, 2), (1, 2), (2, 1), (1, 1)])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_layer_is_its_dense_twin(form: dict[str, Any], batches: tuple[int, int]) -> None:
    """Outputs and the gradients to input, style and both factors."""
    form = dict(form)
    demodulate = form.pop("demodulate", True)
    inputs, weight, options = layer(batches, **form)
    variables = [t.requires_grad_(True) for t in inputs]
    x, style, left, right = variables
    fast = modulated_conv2d(x, weight, style, demodulate=demodulate, offset=LowRank(left, right), **options)
    twin = modulated_conv2d(x, per_sample(weight, left, right), style, demodulate=demodulate, **options)
    torch.testing.assert_close(fast, twin, atol=1e-12, rtol=1e-12)
    probe = normal(*fast.shape, seed=9)
    gradients = torch.autograd.grad(fast, variables, probe)
    torch.testing.assert_close(gradients, torch.autograd.grad(twin, variables, probe), atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_both_memory_layouts_give_the_same_and_stay(form: dict[str, Any]) -> None:
    """Weights of a network that was trained channels last are so, and their features too."""
    form = dict(form)
    demodulate = form.pop("demodulate", True)
    inputs, weight, options = layer(**form)
    offset = LowRank(*inputs[2:])
    outputs = []
    for layout in (torch.contiguous_format, torch.channels_last):
        x = inputs[0].to(memory_format=layout).requires_grad_(True)
        base = weight.to(memory_format=layout)
        y = modulated_conv2d(x, base, inputs[1], demodulate=demodulate, offset=offset, **options)
        (gradient,) = torch.autograd.grad(y, x, normal(*y.shape, seed=9).to(memory_format=layout))
        if "ring" not in options:
            assert y.is_contiguous(memory_format=layout)
            assert gradient.is_contiguous(memory_format=layout)
        outputs.append((y, gradient))
    torch.testing.assert_close(*outputs, atol=1e-12, rtol=1e-12, check_stride=False)


@pytest.mark.seconds
@pytest.mark.parametrize("form", FORMS[:3], ids=str)
def test_gradients_against_finite_differences(form: dict[str, Any]) -> None:
    (x, style, left, right), weight, options = layer(**form)
    options["ring"] = options["ring"][:, :, :12] if "ring" in options else None
    variables = [t.requires_grad_(True) for t in (x[:, :, :2, :2].clone(), style, left, right)]

    def run(x: Tensor, style: Tensor, left: Tensor, right: Tensor) -> Tensor:
        return modulated_conv2d(x, weight, style, offset=LowRank(left, right), **options)

    assert torch.autograd.gradcheck(run, variables)


@pytest.mark.parametrize("form", FORMS[:3], ids=str)
@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e4])
def test_float16_stays_in_range(form: dict[str, Any], scale: float) -> None:
    """Whatever the magnitudes of weight and factors; the largest error is a few roundings of the largest value."""
    (x, style, left, right), weight, options = layer(**form)
    exact = modulated_conv2d(x, weight, style, offset=LowRank(left, right), **options)
    if options["fir"] is not None:
        options["fir"] = FIR(gain=4.0)
    given: dict[str, Any] = {k: v.float() if isinstance(v, Tensor) else v for k, v in options.items()}
    offset = LowRank(left.float() * scale**2, right.float() / scale)
    ring = {"ring": given.pop("ring") * scale} if "ring" in given else {}
    half = modulated_conv2d(x.half(), weight.float() * scale, style.float() * scale, offset=offset, **given, **ring)
    assert half.dtype == torch.float16
    assert (half - exact).abs().max() < 4e-3 * exact.abs().max()


def wide_generator(dtype: torch.dtype = torch.float64) -> Generator:
    return narrow_generator(dtype, **WIDE)


def offsets_of(g: Generator, batch: int, rank: int, seed: int = 0, zero: bool = False) -> dict[str, LowRank]:
    """An offset to every parameter that is a matrix."""
    out = {}
    for i, (name, p) in enumerate(g.synthesis.named_parameters()):
        if p.ndim > 1:
            left = normal(batch, p.shape[0], rank, seed=seed + 2 * i, scale=0.0 if zero else 0.5)
            right = normal(batch, rank, p[0].numel(), seed=seed + 2 * i + 1, scale=0.5)
            out[name] = LowRank(left.to(p.dtype), right.to(p.dtype))
    return out


def as_dense(g: Generator, offsets: dict[str, LowRank]) -> dict[str, Tensor]:
    return {name: dense(offset, g.synthesis.get_parameter(name).shape) for name, offset in offsets.items()}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_a_generator_is_its_dense_twin(dtype: torch.dtype, tolerance: float) -> None:
    """Errors relative to the largest value, of the images and of the gradients to both factors."""
    g = wide_generator(dtype)
    w, offsets = w_plus(g, 3), offsets_of(g, 3, rank=2)
    assert all(low_rank.pays(o, g.synthesis.get_parameter(n).shape) for n, o in offsets.items() if n[:5] == "convs")
    factors = [f.requires_grad_(True) for o in offsets.values() for f in (o.left, o.right)]
    fast = g.synthesize(Code(w=w, weights=offsets))
    twin = g.synthesize(Code(w=w, weights=as_dense(g, offsets)))
    assert (fast - twin).abs().max() < tolerance * twin.abs().max()
    probe = normal(*twin.shape, seed=99).to(dtype)
    gradients, expected = (torch.autograd.grad((i * probe).mean(), factors) for i in (fast, twin))
    for gradient, twins in zip(gradients, expected, strict=True):
        assert (gradient - twins).abs().max() < tolerance * twins.abs().max()


def test_a_left_of_zeros_is_the_plain_generator() -> None:
    """As low-rank tuning starts."""
    g = wide_generator(torch.float32)
    w = w_plus(g, 2)
    plain = g.synthesize(Code(w=w))
    zero = g.synthesize(Code(w=w, weights=offsets_of(g, 2, rank=3, zero=True)))
    assert (zero - plain).abs().max() < 1e-6 * plain.abs().max()


def test_ranks_mix_in_a_batch() -> None:
    g = wide_generator()
    codes = [Code(w=w_plus(g, seed=r), weights=offsets_of(g, 1, rank=r, seed=100 * r)) for r in (1, 3, 2)]
    codes += [Code(w=w_plus(g, seed=9))]
    joined = Code.cat(codes)
    assert joined.weights is not None
    assert isinstance(joined.weights["convs.1.weight"], LowRank)
    alone = torch.cat([g.synthesize(c) for c in codes])
    torch.testing.assert_close(g.synthesize(joined), alone, atol=1e-12, rtol=1e-12)


def test_an_offset_that_the_batch_shares_is_added_in() -> None:
    g = wide_generator()
    w, offsets = w_plus(g, 2), offsets_of(g, 1, rank=1)
    each = {n: LowRank(o.left.expand(2, -1, -1), o.right) for n, o in offsets.items()}
    shape = g.synthesis.get_parameter("convs.1.weight").shape
    assert not low_rank.pays(offsets["convs.1.weight"], shape)
    assert low_rank.pays(each["convs.1.weight"], shape)
    shared = g.synthesize(Code(w=w, weights=offsets))
    torch.testing.assert_close(shared, g.synthesize(Code(w=w, weights=each)), atol=1e-12, rtol=1e-12)


def test_beside_a_scale_the_offset_is_added_in() -> None:
    """Weight = W * (1 + scale) + offset."""
    g = wide_generator()
    w, name = w_plus(g, 2), "convs.2.weight"
    offset, scale = offsets_of(g, 2, rank=1)[name], normal(2, 16, 16, 3, 3, scale=0.3)
    base = g.synthesis.get_parameter(name)
    image = g.synthesize(Code(w=w, weights={name: offset}, scales={name: scale}))
    whole = g.synthesize(Code(w=w, weights={name: base * scale + dense(offset, base.shape)}))
    torch.testing.assert_close(image, whole, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(
    ("shape", "rank", "kept"),
    [((128, 128, 3, 3), 8, True), ((32, 32, 3, 3), 8, True), ((32, 32, 3, 3), 16, False), ((3, 32, 1, 1), 1, False),
     ((512, 512), 16, True)],
)  # fmt: skip
def test_which_weights_keep_their_offset_low_rank(shape: tuple[int, ...], rank: int, kept: bool) -> None:
    columns = torch.Size(shape[1:]).numel()
    offset = LowRank(torch.zeros(2, shape[0], rank), torch.zeros(2, rank, columns))
    assert low_rank.pays(offset, shape) == kept


@pytest.mark.seconds
@pytest.mark.parametrize(("rank", "tflop"), [(4, 0.326), (8, 0.351)])
def test_tuning_at_1024_costs_little_more_than_a_latent(rank: int, tflop: float) -> None:
    """Forward and backward for each image: 0.446 TFLOP with weights of its own, 0.297 with none (compute budget)."""
    channels = (512, 512, 512, 512, 512, 256, 128, 64, 32)
    low, whole = {}, {}
    with torch.device("meta"):
        g = Generator(GeneratorConfig(resolution=1024, channels=channels)).requires_grad_(False)
        w = torch.empty(2, g.num_ws, g.w_dim)
        for name, p in g.synthesis.named_parameters():
            if name.startswith("convs") and p.ndim == 4:
                whole[name] = torch.empty(1, *p.shape, requires_grad=True)
                left, right = torch.empty(2, p.shape[0], rank), torch.empty(2, rank, p[0].numel())
                low[name] = LowRank(left.requires_grad_(True), right.requires_grad_(True))

    def cost(code: Code) -> float:
        with FlopCounterMode(display=False) as counter:
            g.synthesize(code).sum().backward()
        return counter.get_total_flops() / len(code) / 1e12

    # One image: the counter takes the weight gradients of B groups for B times what they are.
    assert cost(Code(w=w[:1], weights=whole)) == pytest.approx(0.446, rel=0.01)
    assert cost(Code(w=w, weights=low)) == pytest.approx(tflop, rel=0.01)
