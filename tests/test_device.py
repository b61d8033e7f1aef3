"""What runs on any device gives there what the processor gives. ``pytest --device cuda`` tries another one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.metrics.images import mse, ssim
from ganinv.stages.method import load_method
from ganinv.target import Target
from tests.contracts.inverters import World
from tests.tiny import random_w, tiny_generator

FEW = {
    "w-plus-optimisation": {0: {"steps": 5}},
    "pti-w": {0: {"steps": 20}, 1: {"steps": 5}},
}
"""Steps enough to see the error fall."""
KINDS = ("psp", "e4e", "restyle", "hyperstyle", "hfgi", "sfe", "padinv", "style-transformer")


def close(found: Tensor, exact: Tensor, device: torch.device, tolerance: float) -> None:
    assert found.device.type == device.type
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double().cpu(), exact, rtol=tolerance, atol=tolerance)


def test_synthesis(device: torch.device) -> None:
    exact, g = tiny_generator(dtype=torch.float64), tiny_generator().to(device)
    w = random_w(exact, 3)
    images = exact.synthesize(Code(w=w))
    close(g.synthesize(Code(w=w.float().to(device))), images, device, 1e-3)
    assert g.discriminator is not None
    assert exact.discriminator is not None
    close(g.discriminator(images.float().to(device)), exact.discriminator(images), device, 1e-3)


def test_measures(device: torch.device) -> None:
    a, b = (torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(n)).double() * 2 - 1 for n in (0, 1))
    for measure in (mse, ssim):
        close(measure(a.float().to(device), b.float().to(device)), measure(a, b), device, 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_inverters(kind: str, device: torch.device, tmp_path: Path) -> None:
    world = World(tmp_path)
    made = world.inverter(kind)
    there = world.generator.synthesize(made(world.images))
    g = world.generator.to(device)
    here = g.synthesize(made.to(device)(world.images.to(device)))
    close(here, there.double(), device, 5e-3)


@pytest.mark.seconds
@pytest.mark.parametrize("name", FEW)
def test_methods_lower_the_error_and_leave_their_code_there(name: str, device: torch.device) -> None:
    g = tiny_generator()
    images = g.synthesize(Code(w=random_w(g, 2))).clamp(-1, 1).to(device)
    g = g.to(device)
    found = load_method(name, g, stages=FEW[name]).invert(Target(images, ids=["a", "b"]))
    assert found.code.w.device.type == device.type
    mean = g.synthesize(Code(w=g.w_mean.expand(2, g.num_ws, -1)))
    assert (mse(g.synthesize(found.code), images) < mse(mean, images)).all()
