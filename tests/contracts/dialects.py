"""What every dialect of generator files promises, as functions of the names that its project gives to tensors.

``CHECKS`` are run for the dialects that there are by ``test_dialects.py``; a new one runs them in its own test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.errors import WeightsRefused
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from tests.tiny import random_w, tiny_generator

State = Callable[[Generator], dict[str, Tensor]]
"""What the project would store for a generator."""


def opened(state: Any, place: Path) -> Generator:
    torch.save(state, place)
    return open_generator(str(place))


def opens_to_the_same_network(state_of: State, layout: str, folder: Path) -> None:
    g = tiny_generator()
    again = opened(state_of(g), folder / "g.pt")
    assert again.provenance is not None
    assert again.provenance.layout == layout
    w = random_w(g, 2)
    torch.testing.assert_close(again.synthesize(Code(w=w)), g.synthesize(Code(w=w)), atol=1e-5, rtol=1e-5)
    z = torch.randn(2, g.z_dim)
    torch.testing.assert_close(again.map(z), g.map(z))


def opens_under_a_prefix(state_of: State, layout: str, folder: Path) -> None:
    g = tiny_generator()
    again = opened({"g_ema": {f"module.{name}": t for name, t in state_of(g).items()}}, folder / "g.pt")
    w = random_w(g, 1)
    torch.testing.assert_close(again.synthesize(Code(w=w)), g.synthesize(Code(w=w)), atol=1e-5, rtol=1e-5)


def refuses_what_is_missing_or_left_over(state_of: State, layout: str, folder: Path) -> None:
    state = state_of(tiny_generator())
    big = [name for name, tensor in state.items() if tensor.numel() > 64]
    without = {name: tensor for name, tensor in state.items() if name != big[-1]}
    with pytest.raises(WeightsRefused):
        opened(without, folder / "missing.pt")
    with pytest.raises(WeightsRefused, match="another_layer"):
        opened({**state, "another_layer.weight": torch.ones(3)}, folder / "more.pt")


def refuses_what_is_not_finite(state_of: State, layout: str, folder: Path) -> None:
    state = state_of(tiny_generator())
    name = next(name for name, tensor in state.items() if tensor.ndim >= 4 and tensor.numel() > 300)
    broken = state[name].clone()
    broken.view(-1)[5] = float("nan")
    with pytest.raises(WeightsRefused, match="not finite"):
        opened({**state, name: broken}, folder / "nan.pt")


Check = Callable[[State, str, Path], None]

CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        opens_to_the_same_network,
        opens_under_a_prefix,
        refuses_what_is_missing_or_left_over,
        refuses_what_is_not_finite,
    )
}
