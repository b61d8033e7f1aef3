"""The rest of a batch leaves no trace, operation by operation: rows have the same bits in a batch of four and of sixteen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ganinv.generators.layers import FIR, modulated_conv2d
from ganinv.machine import Machine
from ganinv.stages.batches import STRIDE
from ganinv.stages.company import MANY, OPERATIONS, example, gradient, has_own_weights, leaves_a_trace, traces

WIDTHS = [(n, n) for n in (128, 192, 256, 320, 384, 448, 512)]
PUBLISHED = [(512, 18), (512, 9216), (18, 512)]
"""Beside 512x512: the rows of W+ at 1024 pixels, all of them at once, and back."""


CASES = [(name, *size) for name in OPERATIONS for size in (*WIDTHS, *PUBLISHED)]


@pytest.mark.parametrize(
    ("name", "width", "out"),
    [case for case in CASES if case[1] * case[2] <= 512 * 512 or case[0].endswith(("matmul", "linear"))],
)
@pytest.mark.usefixtures("each_number_of_threads")
def test_rows_have_the_same_bits_in_any_company(name: str, width: int, out: int) -> None:
    with torch.no_grad():
        assert not leaves_a_trace(OPERATIONS[name], *example(name, width, out), has_own_weights(name)), where()


@pytest.mark.seconds
@pytest.mark.parametrize("up", [False, True], ids=["plain", "up"])
@pytest.mark.parametrize(
    ("channels", "own"), [(64, False), (64, True), (128, False), (128, True), (512, False)], ids=lambda v: str(v)
)
@pytest.mark.usefixtures("each_number_of_threads")
def test_modulated_convolutions_too(channels: int, own: bool, up: bool) -> None:
    """A layer with weights for all or for each image, and what flows back to its input, its styles and its weights."""
    random = torch.Generator().manual_seed(channels)
    size, fir = (4 if channels == 512 else 8), FIR(4.0) if up else None
    x = torch.randn(MANY, channels * size * size + channels, generator=random)
    weight = torch.randn(*((MANY,) if own else ()), channels, channels, 3, 3, generator=random)

    def layer(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        features, style = rows.split([channels * size * size, channels], dim=1)
        return modulated_conv2d(features.view(-1, channels, size, size), weight, style, up=up, fir=fir)

    with torch.no_grad():
        assert not leaves_a_trace(layer, x, weight, own), where()
        if not own or channels == 64:
            assert not leaves_a_trace(gradient(layer, own), x, weight, own), where()


def test_the_probe_is_cheap_and_right_here() -> None:
    seconds = []
    for _ in range(3):
        traces.cache_clear()
        started = time.process_time()
        assert traces() == (), where()
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.1  # about 15 ms


@pytest.mark.seconds
@pytest.mark.parametrize("mode", ["COMPATIBLE", "AUTO,STRICT"])
def test_the_probe_says_what_a_direct_look_says(mode: str) -> None:
    """In a process of its own, with another mode of the library: where four rows differ from sixteen, the probe says so.

    oneMKL's COMPATIBLE branch does differ (seen on an AMD EPYC 9004); a machine without oneMKL may not, and must not say so.
    """
    code = (
        "import json, ganinv, torch; from ganinv.stages.company import traces;"
        "random = torch.Generator().manual_seed(7);"
        "x, a = torch.randn(16, 512, generator=random), torch.randn(512, 512, generator=random);"
        "print(json.dumps([not torch.equal(x[:4] @ a, (x @ a)[:4]), traces()]))"
    )
    differs, told = json.loads(run(code, MKL_CBWR=mode))
    assert bool(told) == differs
    assert not differs or "matmul 512x512" in told


def test_the_mode_is_set_before_the_first_product_and_a_choice_stays() -> None:
    code = "import os, ganinv; print(os.environ['MKL_CBWR'])"
    assert run(code) == "AUTO,STRICT"
    assert run(code, MKL_CBWR="COMPATIBLE") == "COMPATIBLE"


def run(code: str, **environment: str) -> str:
    """What a new process prints, in which nobody has chosen a mode."""
    plain = {key: value for key, value in os.environ.items() if key != "MKL_CBWR"}
    plain["PYTHONPATH"] = str(Path(__file__).parents[2])
    out = subprocess.run(
        [sys.executable, "-c", code], env=plain | environment, capture_output=True, text=True, timeout=120, check=True
    )
    return out.stdout.strip()


def where() -> str:
    return f"a batch of {STRIDE} and one of {MANY} differ on {Machine.here()}"
