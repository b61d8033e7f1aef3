"""The fast path equals the plain one, in values and gradients; without a compiler there is one warning and the plain path."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.errors import ConfigError
from ganinv.generators import fast
from ganinv.generators.layers import FIR, after_convolution
from ganinv.generators.stylegan2 import Generator, GeneratorConfig
from tests.tiny import random_w

COMPILER = os.environ.get("CXX") or next((c for c in ("g++", "clang++") if shutil.which(c)), None)


@pytest.fixture(autouse=True)
def _off_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(fast, "_gave_up", False)  # and as it was afterwards
    yield
    fast.fast_path("off")


def inputs(filtered: bool, per_sample: bool, given: bool) -> list[Tensor | None]:
    """y, demodulation, noise, bias in float64."""
    rng = torch.Generator().manual_seed(0)
    size = 9 if filtered else 8
    shapes = [(2, 3, size, size), (2, 3), (2, 1, 8, 8) if per_sample else (8, 8), (2, 3) if per_sample else (3,)]
    out: list[Tensor | None] = [torch.randn(s, generator=rng, dtype=torch.float64).requires_grad_() for s in shapes]
    return out if given else [out[0], None, None, out[3]]


@pytest.mark.parametrize("filtered", [True, False])
@pytest.mark.parametrize("per_sample", [True, False])
@pytest.mark.parametrize(("given", "clamp"), [(True, None), (True, 0.6), (False, None)])
def test_the_twin_equals_the_reference(filtered: bool, per_sample: bool, given: bool, clamp: float | None) -> None:
    tensors = inputs(filtered, per_sample, given)
    fir = FIR(4.0).double() if filtered else None
    kernel = None if fir is None else fir.kernel
    want = after_convolution(*tensors, fir, 0.7, clamp)  # type: ignore[arg-type]
    got = fast.twin(*tensors, kernel, 0.7, clamp)  # type: ignore[arg-type]
    torch.testing.assert_close(got, want)
    wanted = [t is not None for t in (*tensors, None)]
    grad = torch.randn(want.shape, dtype=torch.float64)
    leaves = [t for t in tensors if t is not None]
    gradients = [g for g in fast.twin_backward(grad, wanted, [*tensors, kernel], 0.7, clamp) if g is not None]
    for one, other in zip(gradients, torch.autograd.grad(want, leaves, grad), strict=True):
        torch.testing.assert_close(one, other)


def test_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fast.fast_path("off") == fast.fast_path() == "off"
    with pytest.raises(ConfigError, match="unknown fast path 'cuda'; there are: off, compile"):
        fast.fast_path("cuda")  # type: ignore[arg-type]
    monkeypatch.setattr(fast, "_mode", None)
    monkeypatch.setenv("GANINV_FAST", "compile")
    assert fast.fast_path() == "compile"


@pytest.mark.slow
@pytest.mark.timeout(1800)  # four compilations on two busy cores
@pytest.mark.skipif(COMPILER is None, reason="torch.compile needs a C++ compiler")
def test_compiled_synthesis_equals_the_plain_one() -> None:
    """Images, gradients, a graph that is kept, and second derivatives."""
    torch.manual_seed(0)
    g = Generator(GeneratorConfig(resolution=8, channels=(6, 5), z_dim=7, w_dim=7, mapping_layers=1)).eval()
    leaf = random_w(g, 2).requires_grad_(True)

    def derivatives() -> list[Tensor]:
        image = g.synthesize(Code(w=leaf))
        loss = image.square().sum()
        (once,) = torch.autograd.grad(loss, leaf, retain_graph=True)
        (again,) = torch.autograd.grad(loss, leaf, retain_graph=True)
        (first,) = torch.autograd.grad(loss, leaf, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), leaf)
        return [image, once, again, first, second]

    want = derivatives()
    fast.fast_path("compile")
    got = derivatives()
    assert fast.fast_path() == "compile"  # it did not fall back
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_without_a_compiler_one_warning_and_the_plain_path(tmp_path: Path) -> None:
    program = (
        "import torch\n"
        "from ganinv.codes.code import Code\n"
        "from tests.tiny import random_w, tiny_generator\n"
        "g = tiny_generator()\n"
        "for _ in range(2):\n"
        "    image = g.synthesize(Code(w=random_w(g, 1)))\n"
        "print(float(image.abs().sum()))\n"
    )
    plain = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "GANINV_FAST": "off"}
    without = {
        **plain,
        "GANINV_FAST": "compile",
        "CXX": str(tmp_path / "none"),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
    }
    ran = [
        subprocess.run([sys.executable, "-c", program], env=e, capture_output=True, text=True, check=True)
        for e in (plain, without)
    ]
    assert ran[0].stdout == ran[1].stdout
    assert "no fast path" not in ran[0].stderr
    assert ran[1].stderr.count("UserWarning: no fast path") == 1
