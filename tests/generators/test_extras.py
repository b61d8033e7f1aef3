"""Every extra of a code does what its method describes, and nothing when it is neutral or absent."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.codes.code import Code, Feature, HeadCode, LowRank, Masked
from ganinv.codes.parts import map_tensors
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.layers import DEMOD_EPS, modulated_conv2d
from ganinv.generators.padding import centre, frame, ring_of
from ganinv.generators.stylegan2 import Generator
from ganinv.networks.weight_heads import ChannelHead, KernelHead
from tests.generators.narrow import CHANNELS, extras_of, full_code, narrow_generator, normal, w_plus

EXACT = {"atol": 1e-12, "rtol": 1e-12}
NAMES = list(extras_of())


def neutral(value: Any, key: str = "") -> Any:
    """The same extra, with the values that change nothing."""
    if isinstance(value, dict):
        return {k: neutral(v) for k, v in value.items()}
    if isinstance(value, Masked):
        return Masked(value.value, torch.zeros_like(value.value[:, :1]))
    if isinstance(value, Feature):
        none = Feature(film=value.film and map_tensors(value.film, torch.zeros_like))
        return replace(
            none, **{k: neutral(v) for k in ("add", "replace", "image") if (v := getattr(value, k)) is not None}
        )
    return map_tensors(value, torch.zeros_like)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_neutral_extras_change_nothing(dtype: torch.dtype, tolerance: float) -> None:
    """Differences relative to the largest value of the image."""
    g = narrow_generator(dtype)
    w = w_plus(g, 2)
    plain = g.synthesize(Code(w=w))
    bare = ("noise", "const", "style values")  # bare replacements have no neutral value but the learned one
    codes = {
        name: Code(w=w, **{k: neutral(v) for k, v in extra.items()})
        for name, extra in extras_of(2).items()
        if name not in bare
    }
    own_styles = dict(zip(g.style_names, g.styles(w), strict=True))
    codes["noise"] = Code(w=w, noise={k: conv.noise[None, None] for k, conv in enumerate(g.synthesis.convs)})
    codes["const"] = Code(w=w, const=g.synthesis.const[None])
    codes["style values"] = Code(w=w, style_values=own_styles)
    for name, code in codes.items():
        assert not code.plain
        difference = (g.synthesize(code.to(dtype)) - plain).abs().max() / plain.abs().max()
        assert difference < tolerance, name


def test_empty_extras_are_the_plain_path() -> None:
    g = narrow_generator(torch.float32)
    w = w_plus(g, 2)
    empty = Code(w=w, noise={}, styles={}, weights={}, padding={}, style_values={}, scales={}, features={})
    assert empty.plain
    assert torch.equal(g.synthesize(empty), g.synthesize(Code(w=w)))


@pytest.mark.parametrize("name", NAMES)
def test_every_extra_changes_the_image(name: str) -> None:
    g = narrow_generator()
    w = w_plus(g)
    difference = g.synthesize(Code(w=w, **extras_of()[name])) - g.synthesize(Code(w=w))
    assert difference.abs().mean() > 1e-3


def changed(g: Generator, **tensors: Tensor) -> Generator:
    other = copy.deepcopy(g)
    with torch.no_grad():
        for name, value in tensors.items():
            other.synthesis.get_parameter(name.replace("__", ".")).copy_(value)
    return other


def test_weights_are_scaled_then_offset_before_modulation() -> None:
    g = narrow_generator()
    w, base = w_plus(g), g.synthesis.convs[3].weight
    scale, offset = normal(1, *base.shape, seed=1, scale=0.5), normal(1, *base.shape, seed=2)
    code = Code(w=w, scales={"convs.3.weight": scale}, weights={"convs.3.weight": offset})
    other = changed(g, convs__3__weight=base * (1 + scale[0]) + offset[0])
    torch.testing.assert_close(g.synthesize(code), other.synthesize(Code(w=w)), **EXACT)


def test_a_given_constant_is_a_learned_constant() -> None:
    g, value = narrow_generator(), normal(2, CHANNELS, 4, 4)
    w = w_plus(g, 2)
    images = g.synthesize(Code(w=w, const=value))
    for i in range(2):
        other = changed(g, const=value[i])
        torch.testing.assert_close(images[i : i + 1], other.synthesize(Code(w=w[i : i + 1])), **EXACT)
    offset = Code(w=w, weights={"const": value - g.synthesis.const})
    torch.testing.assert_close(images, g.synthesize(offset), **EXACT)


def test_style_values_take_one_latent_to_another() -> None:
    """S holds all that W+ says; a mask takes channels one by one."""
    g = narrow_generator()
    a, b = w_plus(g, seed=1), w_plus(g, seed=2)
    styles = dict(zip(g.style_names, g.styles(b), strict=True))
    torch.testing.assert_close(g.synthesize(Code(w=a, style_values=styles)), g.synthesize(Code(w=b)), **EXACT)
    channel = torch.zeros(1, CHANNELS, dtype=torch.float64)
    channel[0, 5] = 1
    own = g.styles(a)[g.style_names.index("convs.2")]
    one = Code(w=a, style_values={"convs.2": Masked(own + 3, channel)})
    offset = Code(w=a, styles={"convs.2": 3 * channel})
    torch.testing.assert_close(g.synthesize(one), g.synthesize(offset), **EXACT)


def test_noise_under_a_mask() -> None:
    g = narrow_generator()
    w, given, mask = w_plus(g), normal(1, 1, 16, 16), (normal(1, 1, 16, 16, seed=3) > 0).double()
    whole = g.synthesis.convs[4].noise * (1 - mask) + given * mask
    code = Code(w=w, noise={4: Masked(given, mask)})
    torch.testing.assert_close(g.synthesize(code), g.synthesize(Code(w=w, noise={4: whole})), **EXACT)
    silent = g.synthesize(code, noise="none")
    torch.testing.assert_close(silent, g.synthesize(Code(w=w, noise={4: given * mask}), noise="none"), **EXACT)


def test_an_offset_shared_by_the_batch_is_one_for_each() -> None:
    g = narrow_generator()
    w = w_plus(g, 3)
    for name, extra in extras_of(1).items():
        shared = Code(w=w, **extra)
        each = shared.map(lambda t: t.expand(3, *t.shape[1:]) if t.shape[0] == 1 else t)
        message = f"{name} differs"
        torch.testing.assert_close(g.synthesize(shared), g.synthesize(each), **EXACT, msg=message)


class TestPadding:
    def test_a_ring_changes_the_border_of_its_layer_alone(self) -> None:
        g = narrow_generator()
        w = w_plus(g)
        for k, r in ((0, 4), (2, 8), (4, 16), (6, 32)):
            ring = normal(1, CHANNELS, 4 * (r + 1), seed=k)
            site = f"act[{k}]"
            images, features = g.synthesize(Code(w=w, padding={k: ring}), capture=[site])
            plain_images, plain = g.synthesize(Code(w=w), capture=[site])
            moved = (features[site] - plain[site]).abs().amax(dim=(0, 1))
            assert moved[1:-1, 1:-1].max() < 2e-15
            border = torch.cat([moved[0], moved[-1], moved[:, 0], moved[:, -1]])
            assert border.min() > 1e-6
            reach = (images - plain_images).abs().amax(dim=(0, 1)) > 1e-9
            inner = reach[1:-1, 1:-1].any() if k < 6 else reach[0].any()
            assert inner, "later layers carry the ring inwards"

    def test_it_enters_after_modulation_and_is_demodulated(self) -> None:
        """The fused form has the modulated weight and the ring divided by the style."""
        x, ring, style = normal(2, 4, 8, 8), normal(2, 4, 36, seed=1), normal(2, 4, seed=2)
        weight = normal(5, 4, 3, 3, seed=3)
        modulated = weight * style[:, None, :, None, None]
        demod = (modulated.square().sum(dim=(2, 3, 4)) + DEMOD_EPS).rsqrt()
        fused = [
            F.conv2d(
                frame(x[i : i + 1], ring[i : i + 1] / style[i, :, None]), modulated[i] * demod[i, :, None, None, None]
            )
            for i in range(2)
        ]
        for weights in (weight, weight.expand(2, -1, -1, -1, -1)):  # dense and grouped form
            out = modulated_conv2d(x, weights, style, ring=ring)
            torch.testing.assert_close(out, torch.cat(fused), atol=1e-13, rtol=1e-12)

    def test_compact_rings_are_the_maps(self) -> None:
        """PadInv's maps of 34 pixels: what it reads of them is a constant and four rings of 20, 36, 68, 132 pixels."""
        maps = normal(2, 3, 34, 34).requires_grad_(True)
        rings = [ring_of(centre(maps, r + 2)) for r in (4, 8, 16, 32)]
        assert [ring.shape[2] for ring in rings] == [20, 36, 68, 132]
        constant = centre(maps, 4)
        rebuilt = centre(maps, 32)
        torch.testing.assert_close(frame(rebuilt, rings[3]), maps, atol=0, rtol=0)
        (gradient,) = torch.autograd.grad(constant.sum() + sum(ring.sum() for ring in rings), maps)
        assert int(gradient[0, 0].count_nonzero()) == 16 + 20 + 36 + 68 + 132

    def test_nothing_is_written_into_the_ring(self) -> None:
        g = narrow_generator()
        code = Code(w=w_plus(g, 2), padding={0: normal(1, CHANNELS, 20)})
        kept = code.padding[0].clone()
        first, second = g.synthesize(code), g.synthesize(code)
        assert torch.equal(first, second)
        assert torch.equal(code.padding[0], kept)


class TestHypernetworkCodes:
    SHAPE = (CHANNELS, CHANNELS, 3, 3)

    @pytest.mark.parametrize("kind", [KernelHead, ChannelHead])
    def test_the_summed_code_is_the_sum_of_the_offsets(self, kind: type[KernelHead | ChannelHead]) -> None:
        """HyperStyle adds the offsets of T passes: float32, relative error below 1e-5."""
        torch.manual_seed(0)
        head = kind(self.SHAPE, code_dim=16)
        for p in head.parameters():
            torch.nn.init.normal_(p, std=0.3)
        codes = torch.randn(5, 2, 16)
        summed = sum(head(code, torch.ones(2)) for code in codes)
        kept = HeadCode(codes.sum(0), torch.full((2,), 5.0), head).dense(self.SHAPE)
        assert kept.shape == (2, *self.SHAPE)
        assert (kept - summed).abs().max() < 1e-5 * summed.abs().max()

    def test_a_kernel_head_is_the_released_formula(self) -> None:
        """Two linear maps, the first seen as a matrix of output channels by code size (docs/methods/hyperstyle.md)."""
        torch.manual_seed(0)
        out_ch, in_ch, size = 6, 5, 4
        head = KernelHead((out_ch, in_ch, 3, 3), code_dim=size)
        z = torch.randn(1, size)
        h = (z @ head.w2 + head.b2).view(out_ch, size)
        by_hand = (h @ head.w1 + head.b1).view(out_ch, in_ch, 3, 3)
        torch.testing.assert_close(head(z, torch.ones(1))[0], by_hand)

    def test_it_renders_as_its_dense_offsets(self) -> None:
        g = narrow_generator()
        code = Code(w=w_plus(g, 2), **extras_of(2)["hypernetwork codes"])
        as_dense = {n: d.dense(g.synthesis.get_parameter(n).shape) for n, d in code.scales.items()}
        torch.testing.assert_close(g.synthesize(code), g.synthesize(Code(w=code.w, scales=as_dense)), **EXACT)

    def test_hyperstyles_indices_are_our_order_of_use(self) -> None:
        """26 outputs at 1024 with the toRGB layers at 1, 4, 7, ...; tuned by default are all others."""
        channels = (512, 512, 512, 512, 512, 256, 128, 64, 32)
        with torch.device("meta"):
            g = Generator(GeneratorConfig(resolution=1024, channels=channels))
        names = g.style_names
        assert len(names) == 26
        assert [i for i, n in enumerate(names) if n.startswith("torgbs")] == [1, 4, 7, 10, 13, 16, 19, 22, 25]
        tuned = [0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, 20, 21, 23, 24]
        assert [names[i] for i in tuned] == [f"convs.{k}" for k in range(17)]

    def test_without_its_head_it_says_so(self) -> None:
        g = narrow_generator()
        code = HeadCode(torch.zeros(1, 4, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
        with pytest.raises(ValueError, match=r"hypernetwork's code and its head is not here.*with_heads"):
            g.synthesize(Code(w=w_plus(g), scales={"convs.2.weight": code}))
        head = ChannelHead((3, 2, 3, 3), code_dim=4).double()
        with pytest.raises(ValueError, match=r"head gives offsets of shape \[3, 2, 3, 3\], expected \[8, 8, 3, 3\]"):
            g.synthesize(Code(w=w_plus(g), scales={"convs.2.weight": code}).with_heads({"convs.2.weight": head}))


class TestFeatures:
    def test_the_three_operations_in_their_order(self) -> None:
        g = narrow_generator()
        w, shape = w_plus(g), (1, CHANNELS, 16, 16)
        scale, shift, delta, value = (normal(*shape, seed=i) for i in range(4))
        m, n = normal(1, 1, 16, 16, seed=5).sigmoid(), normal(1, 1, 16, 16, seed=6).sigmoid()
        hook = Feature(film=(scale, shift), add=Masked(delta, m), replace=Masked(value, n))
        for site in ("act[3]", "block[4]"):
            code = Code(w=w, features={site: hook})
            _, seen = g.synthesize(code, capture=[site, f"{site}.before"])
            _, plain = g.synthesize(Code(w=w), capture=[site])
            x = seen[f"{site}.before"]
            assert torch.equal(x, plain[site])
            by_hand = ((x * (1 + scale) + shift) + m * delta) * (1 - n) + value * n
            torch.testing.assert_close(seen[site], by_hand, **EXACT)

    def test_block_hooks_come_after_torgb(self) -> None:
        g = narrow_generator()
        w, value = w_plus(g), normal(1, CHANNELS, 16, 16)
        _, plain = g.synthesize(Code(w=w), capture=["image[4]"])
        _, block = g.synthesize(
            Code(w=w, features={"block[4]": Feature(replace=value)}), capture=["image[4]", "act[4]"]
        )
        _, act = g.synthesize(Code(w=w, features={"act[4]": Feature(replace=value)}), capture=["image[4]"])
        assert torch.equal(plain["image[4]"], block["image[4]"])
        assert not torch.allclose(plain["image[4]"], act["image[4]"])

    def test_hooks_compute_in_the_layers_dtype(self) -> None:
        g = narrow_generator(torch.float32, num_fp16_res=3)
        g.precision = "native-float16"
        hook = Feature(add=normal(1, CHANNELS, 16, 16), film=(normal(1, CHANNELS, 16, 16), normal(1, CHANNELS, 16, 16)))
        code = Code(w=w_plus(g), features={"act[3]": hook}, padding={4: normal(1, CHANNELS, 68)})
        image, seen = g.synthesize(code, capture=["act[3]", "act[4]"])
        assert {f.dtype for f in seen.values()} == {torch.float16}
        assert image.dtype == torch.float32
        g.precision = "float32"
        torch.testing.assert_close(image, g.synthesize(code), atol=0.1, rtol=0.05)


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_extras_in_every_architecture(architecture: str) -> None:
    g = narrow_generator(architecture=architecture)
    names = set(g.style_names)
    code = full_code(g, 2)
    code = replace(
        code,
        styles={n: s for n, s in code.styles.items() if n in names},
        style_values={n: s for n, s in code.style_values.items() if n in names},
        weights={n: d for n, d in code.weights.items() if not n.startswith("torgbs")},
        features={s: replace(f, image=None) for s, f in code.features.items()},
    )
    if architecture == "resnet":
        dense, low = normal(2, CHANNELS, CHANNELS, 1, 1), LowRank(normal(2, CHANNELS, 1), normal(2, 1, CHANNELS))
        code = replace(code, weights={**code.weights, "skips.1.weight": low, "skips.2.weight": dense})
    images = g.synthesize(code)
    for i in range(2):
        torch.testing.assert_close(images[i : i + 1], g.synthesize(code[i]), **EXACT)
    assert not torch.allclose(images, g.synthesize(Code(w=code.w)))
    whole = {n: d.dense(g.synthesis.get_parameter(n).shape) for n, d in code.weights.items() if isinstance(d, LowRank)}
    torch.testing.assert_close(images, g.synthesize(replace(code, weights={**code.weights, **whole})), **EXACT)


def leaves(value: Any, path: str = "") -> dict[str, Tensor]:
    """Every tensor of a code by a readable path."""
    out: dict[str, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        out[f"{path}#{len(out)}"] = tensor
        return tensor

    map_tensors(value, keep)
    return out


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_extra(name: str) -> None:
    """Against finite differences along a random direction, in float64."""
    g = narrow_generator()
    probe, w = normal(2, 3, 32, 32, seed=99), w_plus(g, 2)
    extra = extras_of(2)[name]
    tensors = list(leaves(extra).values())

    def loss(values: list[Tensor]) -> Tensor:
        replacements = {id(old): new for old, new in zip(tensors, values, strict=True)}
        return (g.synthesize(Code(w=w, **map_tensors(extra, lambda t: replacements[id(t)]))) * probe).mean()

    variables = [t.clone().requires_grad_(True) for t in tensors]
    gradients = torch.autograd.grad(loss(variables), variables)
    for i, (variable, gradient) in enumerate(zip(variables, gradients, strict=True)):
        direction = normal(*variable.shape, seed=50 + i)
        ahead, behind = [list(tensors) for _ in range(2)]
        ahead[i], behind[i] = tensors[i] + 1e-6 * direction, tensors[i] - 1e-6 * direction
        slope = (loss(ahead) - loss(behind)) / 2e-6
        torch.testing.assert_close(slope, (gradient * direction).sum(), atol=1e-9, rtol=1e-5)
        assert gradient.flatten(1).abs().sum(1).min() > 0 if gradient.ndim > 1 else gradient.abs().min() > 0


R32 = {
    "noise": [
        ({7: torch.zeros(1, 1, 4, 4)}, r"Code.noise\[7\]: this generator has convolutions 0 to 6"),
        ({2: torch.zeros(1, 1, 4, 4)}, r"Code.noise\[2\] must have the shape \[2 or 1, 1, 8, 8\], got \[1, 1, 4, 4\]"),
    ],
    "styles": [
        ({"conv.2": torch.zeros(2, 8)}, r"Code.styles\['conv.2'\]: no such name.*did you mean 'convs.2'"),
        ({"convs.2": torch.zeros(3, 8)}, r"must have the shape \[2 or 1, 8\], got \[3, 8\]"),
    ],
    "style_values": [
        ({"torgbs.9": torch.zeros(2, 8)}, r"Code.style_values\['torgbs.9'\]: no such name"),
        ({"convs.0": Masked(torch.zeros(1, 8), torch.zeros(1, 3))}, r"convs.0'\] mask must .* \[2 or 1, 8 or 1\]"),
    ],
    "weights": [
        ({"convs.2.weigth": torch.zeros(1)}, r"Code.weights\['convs.2.weigth'\].*did you mean 'convs.2.weight'"),
        ({"convs.2.weight": torch.zeros(8, 8, 3, 3)}, r"shape \[2 or 1, 8, 8, 3, 3\], got \[8, 8, 3, 3\]"),
        (
            {"convs.2.weight": LowRank(torch.zeros(2, 8, 2), torch.zeros(2, 2, 8))},
            r"right must have the shape \[2 or 1, 2, 72\], got \[2, 2, 8\]",
        ),
    ],
    "scales": [
        ({"convs.1.bias": torch.zeros(2, 9)}, r"Code.scales\['convs.1.bias'\] must .* \[2 or 1, 8\], got \[2, 9\]")
    ],
    "const": [(torch.zeros(8, 4, 4), r"Code.const must have the shape \[2 or 1, 8, 4, 4\], got \[8, 4, 4\]")],
    "padding": [
        ({1: torch.zeros(1, 8, 36)}, "only even convolutions can have a ring"),
        ({8: torch.zeros(1, 8, 36)}, "has convolutions 0 to 6"),
        ({2: torch.zeros(1, 8, 10, 10)}, r"Code.padding\[2\] must have the shape \[2 or 1, 8, 36\]"),
    ],
    "features": [
        ({"act[7]": Feature()}, r"features\['act\[7\]'\] is not a site of this generator; it has \['act\[0\]'"),
        ({"block[3]": Feature()}, r"'block\[3\]'\] is not a site"),
        ({"block[2].before": Feature()}, "is not a site"),
        ({"image[2]": Feature()}, "is not a site"),
        (
            {"act[3]": Feature(film=(torch.zeros(1, 8, 8, 8), torch.zeros(1, 8, 1, 1)))},
            r"film scale must have the shape \[2 or 1, 8 or 1, 16 or 1, 16 or 1\], got \[1, 8, 8, 8\]",
        ),
        ({"act[3]": Feature(add=torch.zeros(1, 8, 8, 8))}, r"features\['act\[3\]'\].add must have the shape"),
        (
            {"act[3]": Feature(replace=Masked(torch.zeros(1, 8, 16, 16), torch.zeros(16, 16)))},
            r"replace mask must have the shape \[2 or 1, 1, 16 or 1, 16 or 1\], got \[16, 16\]",
        ),
        ({"act[3]": Feature(image=torch.zeros(1, 3, 16, 16))}, "only at block sites that have a toRGB"),
        ({"block[4]": Feature(image=torch.zeros(1, 3, 8, 8))}, r"image must have the shape \[2 or 1, 3, 16, 16\]"),
    ],
}


@pytest.mark.parametrize(("field", "value", "message"), [(f, v, m) for f, cases in R32.items() for v, m in cases])
def test_refusals_say_what_was_expected(field: str, value: Any, message: str) -> None:
    g = narrow_generator(torch.float32)
    with pytest.raises(ValueError, match=message):
        g.synthesize(Code(w=w_plus(g, 2), **{field: value}))
