"""Files that ``tests.generators.made`` makes have the structure of those that other programs wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ganinv.reading.checkpoint import read_checkpoint
from ganinv.reading.stub import Stub
from tests.generators.made import NVIDIA, ROSINALITY


def modules(node: Stub, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, state) of a persistent module and of those within."""
    state = node.args[0]["state"]
    yield path, state
    for name, child in state["_modules"].items():
        yield from modules(child, f"{path}.{name}")


@pytest.mark.parametrize("name", NVIDIA)
def test_nvidia_s_pickles(shared: Path, made: Path, name: str) -> None:
    """The same modules with tensors of the same shapes; what else they say is a part of what the others say."""
    ours, theirs = (
        read_checkpoint(str(next((root / "nvidia").glob(f"{name}.p*")))) for root in (made, shared / "golden")
    )
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
    for role in ("G", "D", "G_ema") if isinstance(ours, dict) else ("",):
        own, recorded = (dict(modules(tree[role] if role else tree)) for tree in (ours, theirs))
        assert own.keys() == recorded.keys()
        for path, state in own.items():
            for kind in ("_parameters", "_buffers"):
                shapes, wanted = (
                    {n: tuple(t.shape) for n, t in each[kind].items() if t is not None}
                    for each in (state, recorded[path])
                )
                assert shapes == wanted, f"{role}{path}"
            said = {key: value for key, value in state.items() if not key.startswith("_")}
            assert said.items() <= {key: recorded[path].get(key) for key in said}.items(), f"{role}{path}"


@pytest.mark.parametrize("name", ROSINALITY)
def test_rosinality_s_checkpoints(shared: Path, made: Path, name: str) -> None:
    ours, theirs = (read_checkpoint(str(root / f"rosinality/{name}.pt")) for root in (made, shared / "golden"))
    assert ours.keys() == theirs.keys()
    for role in ours.keys() & {"g", "d", "g_ema"}:
        assert {n: t.shape for n, t in ours[role].items()} == {n: t.shape for n, t in theirs[role].items()}


def test_an_encoder_and_files_that_are_refused(shared: Path, made: Path) -> None:
    encoders = [torch.load(root / "encoders/idinvert_encoder_r64.pth") for root in (made, shared / "golden")]
    ours, theirs = ({name: tensor.shape for name, tensor in each.items()} for each in encoders)
    assert ours == theirs
    bad = {path.name for path in (made / "bad").iterdir()}
    assert bad == {path.name for path in (shared / "golden/bad").iterdir() if not re.match(r"README|\.", path.name)}
