"""Networks that a file will fill: nothing is drawn for them, and what the file lacks cannot pass for weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ganinv.errors import WeightsRefused
from ganinv.generators.files import load_into
from ganinv.reading.start import without_random_start


class Several(nn.Module):
    """Every way to begin that networks here have."""

    constant: Tensor
    own: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.linear = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(4, 5)
        self.embedding, self.gru = nn.Embedding(3, 2), nn.GRU(2, 2)
        self.attention = nn.MultiheadAttention(4, 2)  # xavier_uniform_
        self.scaled = nn.Parameter(torch.randn(2, 3, 1, 1) / 40)
        self.listed = nn.Parameter(torch.rand([4, 2], generator=None))
        self.like = nn.Parameter(torch.randn_like(self.scaled))
        self.truncated = nn.Parameter(nn.init.trunc_normal_(torch.empty(3, 3), std=0.02))
        self.narrow = nn.Parameter(nn.init.trunc_normal_(torch.empty(3, 3), std=0.02, a=0.03, b=0.05))
        self.zero = nn.Linear(2, 2)
        nn.init.zeros_(self.zero.weight)
        nn.init.constant_(self.zero.bias, 3.0)
        self.register_buffer("constant", torch.arange(4.0) / 6)
        self.register_buffer("own", torch.randn(3, generator=torch.Generator().manual_seed(1)))


CONSTANT = ("norm.", "zero.", "constant", "own", "attention.in_proj_bias", "attention.out_proj.bias")


def test_nothing_is_drawn_and_constants_stay() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with without_random_start():
        made = Several()
    assert torch.equal(before, torch.get_rng_state())
    plain = Several()
    assert not torch.equal(before, torch.get_rng_state()), "it draws again outside"
    for name, tensor in made.state_dict().items():
        if name.startswith(CONSTANT):
            assert torch.equal(tensor, plain.state_dict()[name]), name
        else:
            assert tensor.isnan().all(), name
    assert [p.requires_grad for p in made.parameters()] == [p.requires_grad for p in plain.parameters()]


def test_layout() -> None:
    with without_random_start(channels_last=True):
        made = Several()
    assert made.scaled.is_contiguous(memory_format=torch.channels_last)


def test_what_the_file_has_is_there_and_what_it_lacks_is_refused(tmp_path: Path) -> None:
    wanted, file = Several(), tmp_path / "weights.safetensors"
    state = {name: tensor.float() for name, tensor in wanted.state_dict().items()}
    save_file(state, file)
    with without_random_start():
        made = Several()
    load_into(made, str(file))
    for name, tensor in made.state_dict().items():
        assert torch.equal(tensor, wanted.state_dict()[name]), name
    del state["linear.bias"]
    save_file(state, file)
    with without_random_start():
        made = Several()
    with pytest.raises(WeightsRefused, match=r"missing \['linear.bias'\]"):
        load_into(made, str(file))
    assert made.linear(torch.ones(4)).isnan().all(), "one that is used all the same shows it"
