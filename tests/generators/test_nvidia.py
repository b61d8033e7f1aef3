"""Parity with what NVIDIA's implementations recorded: classes, architectures, clamps, float16, StyleSpace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.stylegan2 import Generator
from tests.generators.nvidia import nvidia_generator, own_name

CLOSE = {"atol": 1e-4, "rtol": 1e-4}
FP16 = {"num_fp16_res": 4, "conv_clamp": 256.0}
CASES: dict[str, dict[str, Any]] = {
    "ada_r32_uncond": {},
    "ada_r64_cond3_fp16": {"resolution": 64, "c_dim": 3, **FP16},
    "ada_r32_w512_map2": {"z_dim": 512, "w_dim": 512, "mapping_layers": 2, **FP16},
    "ada_r32_cifar_like": {"c_dim": 10, "mapping_layers": 2},
    "ada_r32_arch_resnet": {"architecture": "resnet"},
    "sg3repo_stylegan2_r32": {},
}


def golden(shared: Path, name: str) -> tuple[Generator, dict[str, Tensor]]:
    arrays = np.load(shared / f"golden/nvidia/{name}.npz")
    want = {k: torch.from_numpy(np.asarray(v)) for k, v in arrays.items() if v.dtype.kind == "f"}
    shape = {"resolution": 32, "z_dim": 64, "w_dim": 64} | CASES[name]
    levels = shape["resolution"].bit_length() - 2
    channels = tuple(want[f"feat.b{4 * 2**b}.x"].shape[1] for b in range(levels))
    cfg = GeneratorConfig(channels=channels, **shape)
    return nvidia_generator(shared / f"golden/nvidia/{name}.pkl", cfg), want


@pytest.mark.parametrize("name", CASES)
def test_equals_the_original_implementation(shared: Path, name: str) -> None:
    g, want = golden(shared, name)
    c = want["c"] if g.c_dim else None  # the last one is a soft label
    torch.testing.assert_close(g.map(want["z"], c), want["ws"], **CLOSE)
    torch.testing.assert_close(g.map(want["z"], c, truncation_psi=0.7), want["ws_psi0.7"], **CLOSE)
    cut = g.map(want["z"], c, truncation_psi=0.7, truncation_cutoff=4)
    torch.testing.assert_close(cut, want["ws_psi0.7_cutoff4"], **CLOSE)
    torch.testing.assert_close(g.synthesize(Code(w=want["ws"])), want["img_const"], **CLOSE)
    torch.testing.assert_close(g.synthesize(Code(w=want["ws"]), noise="none"), want["img_none"], **CLOSE)

    wplus = want["wplus"].requires_grad_(True)
    blocks = range(len(g.cfg.channels))
    images, features = g.synthesize(Code(w=wplus), capture=[f"block[{2 * b}]" for b in blocks])
    torch.testing.assert_close(images, want["wplus_img_const"], **CLOSE)
    for b in blocks:
        torch.testing.assert_close(features[f"block[{2 * b}]"], want[f"feat.b{4 * 2**b}.x"], **CLOSE)
    styles = {n.removeprefix("style."): s for n, s in want.items() if n.startswith("style.")}
    assert g.style_names == [own_name(n) for n in styles]
    for own, theirs in zip(g.styles(wplus), styles.values(), strict=True):
        torch.testing.assert_close(own, theirs, **CLOSE)

    (gradient,) = torch.autograd.grad((images * want["probe"]).mean(), wplus)
    expected = want["probe_grad_wplus"]
    assert (gradient - expected).abs().max() < 1e-6 + 1e-3 * expected.abs().max()


@pytest.mark.parametrize("name", ["ada_r64_cond3_fp16", "ada_r32_w512_map2"])
def test_float16_runs_only_when_asked_for(shared: Path, name: str) -> None:
    g, want = golden(shared, name)
    code = Code(w=want["ws"])
    full, features = g.synthesize(code, capture=["block[0]", "block[2]"])
    assert {f.dtype for f in features.values()} == {torch.float32}
    g.precision = "native-float16"
    half, features = g.synthesize(code, capture=["block[0]", "block[2]"])
    assert [f.dtype for f in features.values()] == [torch.float32, torch.float16]
    assert half.dtype == torch.float32
    assert not torch.equal(full, half)
    torch.testing.assert_close(half, want["img_const_native_fp16"], atol=0.1, rtol=0.05)
    # Closer to the float16 run of the original than a wrong rounding place would be.
    assert (half - want["img_const_native_fp16"]).abs().mean() < 5e-3


def test_a_clamp_holds_in_every_precision() -> None:
    torch.manual_seed(0)
    shape = {"resolution": 16, "channels": (8, 8, 8), "z_dim": 8, "w_dim": 8, "mapping_layers": 1}
    free, clamped = Generator(GeneratorConfig(**shape)), Generator(GeneratorConfig(**shape, conv_clamp=0.5))
    clamped.load_state_dict(free.state_dict())
    code = Code(w=torch.randn(2, 6, 8))
    sites = [f"act[{k}]" for k in range(5)]
    assert max(f.abs().max() for f in free.synthesize(code, capture=sites)[1].values()) > 1
    image, features = clamped.synthesize(code, capture=sites)
    assert max(f.abs().max() for f in features.values()) == 0.5
    # One clamped toRGB per resolution; upsampling at a smooth filter cannot exceed their sum by more than a little.
    assert image.abs().max() < 0.5 * 3 * 1.2


def test_architectures_without_a_skip_have_one_torgb() -> None:
    for architecture in ("orig", "resnet"):
        cfg = GeneratorConfig(resolution=16, channels=(8, 8, 6), z_dim=8, w_dim=8, architecture=architecture)
        g = Generator(cfg)
        assert g.style_names == [f"convs.{k}" for k in range(5)] + ["torgbs.2"]
        assert g.synthesize(Code(w=torch.randn(2, 6, 8))).shape == (2, 3, 16, 16)
        assert any(n.startswith("synthesis.skips.1.") for n in g.state_dict()) == (architecture == "resnet")


def test_the_smallest_generator() -> None:
    g = Generator(GeneratorConfig(resolution=4, channels=(8,), z_dim=8, w_dim=8))
    assert g.num_ws == 2
    assert g.style_names == ["convs.0", "torgbs.0"]
    assert g.synthesize(Code(w=torch.randn(2, 2, 8))).shape == (2, 3, 4, 4)
