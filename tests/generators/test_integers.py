"""Weights of a byte a number: what they lose, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ganinv.errors import WeightsRefused
from ganinv.generators.files import load_into, pack_tensors


def network() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(16, 32, 3), nn.Linear(8, 4))
    with torch.no_grad():
        made[0].weight[1].mul_(1000)
        made[0].weight[2].zero_()
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file(pack_tensors(network().state_dict(), "int8"), tmp_path / "8.safetensors")
    return tmp_path / "8.safetensors"


def test_a_row_loses_half_a_step_of_its_own(file: Path) -> None:
    before, after = network(), network()
    nn.init.ones_(after[0].weight)
    load_into(after, str(file))
    rows = before[0].weight.flatten(1)
    step = rows.abs().amax(1, keepdim=True) / 127
    off = (after[0].weight.flatten(1) - rows).abs()
    assert (off <= 0.5001 * step).all()
    assert off[0].max() > 0.1 * step[0], "nothing was rounded"
    assert not after[0].weight[2].any()


def test_small_tensors_are_halves(file: Path) -> None:
    stored = load_file(file)
    assert {name: str(t.dtype).removeprefix("torch.") for name, t in stored.items()} == {
        "0.weight.int8": "int8",
        "0.weight.step": "float32",
        "0.bias": "float16",
        "1.weight": "float16",
        "1.bias": "float16",
    }
    assert file.stat().st_size < 0.6 * sum(2 * p.numel() for p in network().parameters())


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"0.weight.step": None}, "found no steps"),
        ({"0.weight.step": torch.ones(32)}, r"found torch.int8 and steps of shape \(32,\)"),
        ({"0.weight.int8": torch.ones(32, 16, 3, 3)}, "found torch.float32 and steps"),
        ({"0.weight.int8": None}, r"missing \['0.weight'\], unexpected \['0.weight.step'\]"),
        (
            {"0.weight.int8": torch.ones(4, 16, 3, 3, dtype=torch.int8), "0.weight.step": torch.ones(4, 1, 1, 1)},
            "shape",
        ),
        ({"0.weight.step": torch.full((32, 1, 1, 1), torch.nan)}, "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(file: Path, change: dict[str, torch.Tensor | None], found: str) -> None:
    stored = {name: tensor for name, tensor in (load_file(file) | change).items() if tensor is not None}
    save_file(stored, file)
    with pytest.raises(WeightsRefused, match=found):
        load_into(network(), str(file))
