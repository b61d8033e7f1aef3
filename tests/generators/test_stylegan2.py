"""The generator: parity with the original, per-sample weights, S, noise, gradients, batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ganinv.codes.code import Code, LowRank
from ganinv.generators.layers import FIR, grouped, modulated_conv2d, one_by_one
from ganinv.generators.stylegan2 import Generator, GeneratorConfig, MappingNetwork
from tests.tiny import random_w, tiny_generator


def from_rosinality(state: dict[str, torch.Tensor], cfg: GeneratorConfig) -> Generator:
    """Our generator with the weights of a rosinality state dict."""
    g = Generator(cfg)
    for i, layer in enumerate(g.mapping.fc):
        layer.load_state_dict({n: state[f"style.{i + 1}.{n}"] for n in ("weight", "bias")})
    own = {"const": state["input.input"][0]}
    for k in range(cfg.num_convs):
        name = "conv1" if k == 0 else f"convs.{k - 1}"
        own |= {
            f"convs.{k}.weight": state[f"{name}.conv.weight"][0],
            f"convs.{k}.bias": state[f"{name}.activate.bias"],
            f"convs.{k}.noise_strength": state[f"{name}.noise.weight"][0],
            f"convs.{k}.noise": state[f"noises.noise_{k}"][0, 0],
            f"convs.{k}.affine.weight": state[f"{name}.conv.modulation.weight"],
            f"convs.{k}.affine.bias": state[f"{name}.conv.modulation.bias"],
        }
    for b in range(len(cfg.channels)):
        name = "to_rgb1" if b == 0 else f"to_rgbs.{b - 1}"
        own |= {
            f"torgbs.{b}.weight": state[f"{name}.conv.weight"][0],
            f"torgbs.{b}.bias": state[f"{name}.bias"][0, :, 0, 0],
            f"torgbs.{b}.affine.weight": state[f"{name}.conv.modulation.weight"],
            f"torgbs.{b}.affine.bias": state[f"{name}.conv.modulation.bias"],
        }
    g.synthesis.load_state_dict(own)
    return g


@pytest.mark.parametrize(
    ("name", "resolution", "channels"),
    [("ros_r32_narrow", 32, (32, 32, 32, 24)), ("ros_r64_narrow", 64, (32, 32, 32, 24, 16))],
)
def test_equals_the_original_implementation(
    shared: Path, name: str, resolution: int, channels: tuple[int, ...]
) -> None:
    state = torch.load(shared / f"golden/rosinality/{name}.pt", weights_only=True)
    golden = {k: v for k, v in np.load(shared / f"golden/rosinality/{name}.npz").items() if v.dtype.kind == "f"}
    want = {k: torch.from_numpy(np.asarray(v)) for k, v in golden.items()}
    cfg = GeneratorConfig(resolution=resolution, channels=channels, z_dim=64, w_dim=64)
    g = from_rosinality(state["g_ema"], cfg)
    g.w_mean.copy_(want["latent_avg"])
    close = {"atol": 1e-4, "rtol": 1e-4}
    torch.testing.assert_close(g.map(want["z"]), want["ws_z"], **close)
    torch.testing.assert_close(g.map(want["z"], truncation_psi=0.7), want["ws_z_trunc0.7"], **close)

    wplus = want["wplus"].requires_grad_(True)
    code = Code(w=wplus)
    sites = [f"act[{k}]" for k in range(cfg.num_convs)]
    images, features = g.synthesize(code, capture=sites)
    torch.testing.assert_close(images, want["wplus_img"], **close)
    for k, site in enumerate(sites):
        torch.testing.assert_close(features[site], want["feat.conv1" if k == 0 else f"feat.convs.{k - 1}"], **close)
    torch.testing.assert_close(g.synthesize(code, noise="none"), want["wplus_img_zero_noise"], **close)
    given = {k: want[f"noise.{k}"] for k in range(cfg.num_convs)}
    torch.testing.assert_close(g.synthesize(Code(w=wplus, noise=given)), want["wplus_img_given_noise"], **close)
    names = {"convs.0": "conv1", "torgbs.0": "to_rgb1"}
    for own, style in zip(g.style_names, g.styles(wplus), strict=True):
        kind, index = own.split(".")
        theirs = names.get(own) or f"{'convs' if kind == 'convs' else 'to_rgbs'}.{int(index) - 1}"
        torch.testing.assert_close(style, want[f"style.{theirs}"], **close)

    (gradient,) = torch.autograd.grad((images * want["probe"]).mean(), wplus)
    expected = want["probe_grad_wplus"]
    assert (gradient - expected).abs().max() < 1e-6 + 1e-3 * expected.abs().max()


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
def test_shared_and_per_sample_weights_are_one_function(up: bool, demodulate: bool) -> None:
    torch.manual_seed(0)
    x, style = torch.randn(3, 6, 8, 8), torch.randn(3, 6)
    weight = torch.randn(5, 6, 3, 3)
    fir = FIR(4.0) if up else None
    dense = modulated_conv2d(x, weight, style, demodulate=demodulate, up=up, fir=fir)
    each = modulated_conv2d(x, weight.expand(3, -1, -1, -1, -1), style, demodulate=demodulate, up=up, fir=fir)
    assert dense.shape == ((3, 5, 16, 16) if up else (3, 5, 8, 8))
    torch.testing.assert_close(dense, each, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("up", [False, True])
def test_weights_of_each_image_in_both_ways(up: bool) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(3, 6, 8, 8), torch.randn(3, 5, 6, 3, 3)
    torch.testing.assert_close(one_by_one(x, weight, 1, up), grouped(x, weight, 1, up), atol=1e-5, rtol=1e-5)


def all_offsets(g: Generator, batch: int, scale: float = 0.05) -> dict[str, torch.Tensor | LowRank]:
    """An offset for every parameter of the synthesis: convolutions low-rank, the rest dense."""
    rng = torch.Generator().manual_seed(5)
    offsets: dict[str, torch.Tensor | LowRank] = {}
    for name, p in g.synthesis.named_parameters():
        if name.startswith("convs") and p.ndim == 4:
            left = torch.randn(batch, p.shape[0], 2, generator=rng) * scale
            offsets[name] = LowRank(left, torch.randn(batch, 2, p[0].numel(), generator=rng))
        else:
            offsets[name] = torch.randn(batch, *p.shape, generator=rng) * scale
    return offsets


def test_per_sample_offsets_equal_a_generator_with_changed_weights() -> None:
    g = tiny_generator()
    code = Code(w=random_w(g, 3), weights=all_offsets(g, 3))
    together = g.synthesize(code)
    for i in range(3):
        changed = tiny_generator()
        with torch.no_grad():
            for name, p in changed.synthesis.named_parameters():
                delta = code.weights[name]
                p += delta.dense(p.shape)[i] if isinstance(delta, LowRank) else delta[i]
        torch.testing.assert_close(
            together[i : i + 1], changed.synthesize(Code(w=code.w[i : i + 1])), atol=1e-5, rtol=1e-4
        )
        torch.testing.assert_close(together[i : i + 1], g.synthesize(code[i]), atol=1e-5, rtol=1e-4)


def test_zero_offsets_change_nothing() -> None:
    g = tiny_generator()
    w = random_w(g, 2)
    zero_styles = {name: torch.zeros_like(s) for name, s in zip(g.style_names, g.styles(w), strict=True)}
    plain = g.synthesize(Code(w=w))
    assert torch.equal(plain, g.synthesize(Code(w=w, styles=zero_styles)))
    zero = {n: torch.zeros(2, *p.shape) for n, p in g.synthesis.named_parameters()}
    torch.testing.assert_close(plain, g.synthesize(Code(w=w, weights=zero)), atol=1e-5, rtol=1e-5)


def test_style_offsets_reach_from_one_latent_to_another() -> None:
    """S is the whole of W+: with the difference of the styles, w_a renders what w_b does."""
    g = tiny_generator()
    w = random_w(g, 2)
    a, b = w[:1], w[1:]
    offset = {n: sb - sa for n, sa, sb in zip(g.style_names, g.styles(a), g.styles(b), strict=True)}
    torch.testing.assert_close(g.synthesize(Code(w=a, styles=offset)), g.synthesize(Code(w=b)), atol=1e-5, rtol=1e-4)


def test_gradients_reach_everything() -> None:
    g = tiny_generator(16, dtype=torch.float64)
    code = Code(
        w=random_w(g, 2),
        noise={k: torch.randn(2, 1, c.resolution, c.resolution).double() for k, c in enumerate(g.synthesis.convs)},
        styles={"convs.1": torch.zeros(2, 16).double()},
        weights={n: d.to(torch.float64) for n, d in all_offsets(g, 2).items() if isinstance(d, torch.Tensor)},
    )
    probe = torch.randn(2, 3, 16, 16).double()
    leaves = [
        code.w.clone(),
        code.noise[1],
        code.styles["convs.1"],
        code.weights["convs.1.bias"],
        code.weights["const"],
    ]

    def loss(
        w: torch.Tensor, noise: torch.Tensor, style: torch.Tensor, bias: torch.Tensor, const: torch.Tensor
    ) -> torch.Tensor:
        changed = Code(
            w=w,
            noise={**code.noise, 1: noise},
            styles={"convs.1": style},
            weights={**code.weights, "convs.1.bias": bias, "const": const},
        )
        return (g.synthesize(changed) * probe).mean()

    for leaf in leaves:
        leaf.requires_grad_(True)
    gradients = torch.autograd.grad(loss(*leaves), leaves)
    for i, (leaf, gradient) in enumerate(zip(leaves, gradients, strict=True)):
        direction = torch.randn_like(leaf)
        ahead, behind = list(leaves), list(leaves)
        ahead[i], behind[i] = leaf + 1e-7 * direction, leaf - 1e-7 * direction
        slope = (loss(*ahead) - loss(*behind)) / 2e-7
        torch.testing.assert_close(slope, (gradient * direction).sum(), atol=1e-7, rtol=1e-4)


def test_noise_modes() -> None:
    g = tiny_generator()
    code = Code(w=random_w(g, 2))
    const, none = g.synthesize(code), g.synthesize(code, noise="none")
    assert torch.equal(const, g.synthesize(code))
    assert not torch.equal(const, none)
    fresh = [g.synthesize(code, noise="random", rng=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(fresh[0], fresh[1])
    assert not torch.equal(fresh[0], fresh[2])


def test_truncation() -> None:
    g = tiny_generator()
    z = torch.randn(2, g.z_dim)
    w = g.map(z)
    assert torch.equal(g.map(z, truncation_psi=0.0)[0, 0], g.w_mean)
    cut = g.map(z, truncation_psi=0.5, truncation_cutoff=3)
    torch.testing.assert_close(cut[:, :3], g.w_mean + 0.5 * (w[:, :3] - g.w_mean))
    assert torch.equal(cut[:, 3:], w[:, 3:])


def test_conditional_mapping_needs_its_class() -> None:
    g = Generator(GeneratorConfig(resolution=8, channels=(4, 4), z_dim=8, w_dim=8, c_dim=3, mapping_layers=1))
    z = torch.randn(2, 8)
    a, b = g.map(z, torch.eye(3)[:2]), g.map(z, torch.eye(3)[1:])
    assert a.shape == (2, 4, 8)
    assert not torch.allclose(a, b)
    with pytest.raises(ValueError, match=r"needs c of shape \[B, 3\], got None"):
        g.map(z)


def test_refusals_say_what_was_expected() -> None:
    g = tiny_generator()
    with pytest.raises(ValueError, match=r"\[batch, 8, 16\], got \(1, 6, 16\)"):
        g.synthesize(Code(w=torch.zeros(1, 6, 16)))
    with pytest.raises(ValueError, match=r"unknown capture sites \['act\[99\]'\]"):
        g.synthesize(Code(w=random_w(g, 1)), capture=["act[99]"])
    with pytest.raises(ValueError, match="power of two"):
        GeneratorConfig(resolution=48, channels=(8, 8, 8))
    with pytest.raises(ValueError, match="one width for each of the 4 resolutions"):
        GeneratorConfig(resolution=32, channels=(8, 8))


def test_w_statistics_follow_the_projector() -> None:
    g = tiny_generator()
    z = torch.randn(1000, g.z_dim, generator=torch.Generator().manual_seed(123))
    w = g.mapping(z)
    torch.testing.assert_close(g.w_mean, w.mean(0))
    torch.testing.assert_close(g.w_std, ((w - w.mean(0)) ** 2).sum(1).mean().sqrt())


def test_w_is_measured_once_for_equal_mapping_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    whole = MappingNetwork.forward
    monkeypatch.setattr(MappingNetwork, "forward", lambda self, *args: (calls.append(1), whole(self, *args))[1])
    monkeypatch.setattr("ganinv.generators.stylegan2._MEASURED", {})
    one, two, other = tiny_generator(), tiny_generator(), tiny_generator(seed=1)
    assert len(calls) == 2
    assert torch.equal(one.w_mean, two.w_mean)
    assert torch.equal(one.w_std, two.w_std)
    assert not torch.equal(one.w_mean, other.w_mean)
    one.measure_w(500)  # other draws
    one.mapping.fc[0].bias.data[0] += 1
    one.measure_w(500)  # another network
    assert len(calls) == 4


def test_a_fingerprint_needs_no_deviation_of_w() -> None:
    g, same = tiny_generator(), tiny_generator()
    g._fingerprint = None
    g.w_std.zero_()
    g.measure_w_later(keep_mean=True)
    assert g.fingerprint == same.fingerprint
    assert g.state_dict()["w_std"] > 0  # still measured for whom it matters
    same.w_mean.zero_()
    same.measure_w_later(keep_mean=False)
    same._fingerprint = None
    assert same.fingerprint != g.fingerprint  # of 10,000 draws, not of 1,000


def test_fingerprint_is_of_the_weights() -> None:
    a, b = tiny_generator(), tiny_generator()
    assert a.fingerprint == b.fingerprint
    assert a.fingerprint != tiny_generator(seed=1).fingerprint
    b.synthesis.convs[0].bias.data[0] += 1e-3
    b._fingerprint = None
    assert a.fingerprint != b.fingerprint
