"""rosinality checkpoints: parity with the original implementation, in every container and dress they come in."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from ganinv.errors import WeightsRefused
from ganinv.generators.files import open_generator
from tests.closed_form import closed_form_state
from tests.generators.originals import check_rosinality, close, golden
from tests.reading.pickles import streamed, written, zipped

CASES = {
    "ros_r32_narrow": (32, 32, 32, 24),
    "ros_r64_narrow": (32, 32, 32, 24, 16),
    "ros_r32_train_ckpt": (24, 24, 16, 16),
    "ros_r32_style512_oldzip": (16, 16, 16, 16),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_the_original_implementation(shared: Path, name: str) -> None:
    g = open_generator(str(shared / f"golden/rosinality/{name}.pt"))
    assert g.cfg.channels == CASES[name]
    check_rosinality(g, golden(shared / f"golden/rosinality/{name}.npz"), truncation="train" not in name)
    assert (g.discriminator is not None) == ("train" in name)
    assert g.provenance is not None
    assert g.provenance.layout == "rosinality"
    assert g.provenance.container == ("torch stream" if "oldzip" in name else "torch zip")


@pytest.mark.seconds
def test_true_widths(shared: Path, tmp_path: Path) -> None:
    """22 million closed-form weights, in a checkpoint as the project writes it."""
    file = shared / "golden/rosinality/ros_r32_full512_closedform.json"
    want = golden(file.with_suffix(".npz"))
    data = zipped({"g_ema": closed_form_state(file), "latent_avg": want["latent_avg"]})
    check_rosinality(open_generator(written(tmp_path / "g", data)), want)


def test_a_training_checkpoint_has_three_networks(made: Path) -> None:
    """Its w_mean is computed, and the record says with which seed."""
    file = str(made / "rosinality/ros_r32_train_ckpt.pt")
    g_ema, g = open_generator(file), open_generator(file, network="G")
    assert g.fingerprint != g_ema.fingerprint
    assert g_ema.provenance is not None
    assert g_ema.provenance.computed == {n: {"samples": 10_000, "seed": 123} for n in ("w_mean", "w_std")}
    w = g_ema.mapping(torch.randn(10_000, 48, generator=torch.Generator().manual_seed(123)))
    torch.testing.assert_close(g_ema.w_mean, w.mean(0), atol=1e-5, rtol=1e-4)
    d = open_generator(file, network="D")
    assert d(torch.zeros(2, 3, 32, 32)).shape == (2, 1)
    assert g.discriminator is not None
    close(d(torch.ones(2, 3, 32, 32)), g.discriminator(torch.ones(2, 3, 32, 32)))


@pytest.fixture(scope="module")
def plain(made: Path) -> dict[str, Any]:
    return torch.load(made / "rosinality/ros_r32_narrow.pt", weights_only=True)


@pytest.fixture(scope="module")
def fingerprint(made: Path) -> str:
    return open_generator(str(made / "rosinality/ros_r32_narrow.pt")).fingerprint


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


Data = dict[str, Any]
DRESSES: dict[str, Callable[[Data], Data]] = {
    "module prefix": lambda p: {"g_ema": prefixed(p["g_ema"], "module."), "latent_avg": p["latent_avg"]},
    "ordered": lambda p: {"g_ema": OrderedDict(p["g_ema"]), "latent_avg": p["latent_avg"][None]},
    "average per row": lambda p: {"g_ema": p["g_ema"], "latent_avg": p["latent_avg"].expand(8, -1).clone()},
    "flat": lambda p: {**p["g_ema"], "latent_avg": p["latent_avg"]},
    "decoder of an encoder": lambda p: {
        "state_dict": {"encoder.input_layer.0.weight": torch.zeros(1), **prefixed(p["g_ema"], "decoder.")},
        "latent_avg": p["latent_avg"],
        "opts": {"device": "cuda:0"},
    },
    "without kernels": lambda p: {
        "g_ema": {k: v for k, v in p["g_ema"].items() if not k.endswith(".kernel")},
        "latent_avg": p["latent_avg"],
        "args": argparse.Namespace(size=32),
    },
    "float64": lambda p: {
        "g_ema": {k: v.double() for k, v in p["g_ema"].items()},
        "latent_avg": p["latent_avg"].double(),
    },
}


@pytest.mark.parametrize("container", [zipped, streamed])
@pytest.mark.parametrize("dress", DRESSES)
def test_dresses(tmp_path: Path, plain: Data, fingerprint: str, dress: str, container: Callable[[Any], bytes]) -> None:
    g = open_generator(written(tmp_path / "g", container(DRESSES[dress](plain))))
    assert g.fingerprint == fingerprint


def test_safetensors(made: Path, tmp_path: Path, plain: Data, fingerprint: str) -> None:
    assert open_generator(str(made / "bad/complete.safetensors")).fingerprint == fingerprint
    data = save({**prefixed(plain["g_ema"], "module."), "module.latent_avg": plain["latent_avg"]})
    assert open_generator(written(tmp_path / "g.pkl", data)).fingerprint == fingerprint


def test_without_noise_maps_and_average(tmp_path: Path, plain: Data) -> None:
    """As the files of 2019: noise is drawn, from a seed that the record names; the rest is the same."""
    state = {k: v for k, v in plain["g_ema"].items() if not k.startswith("noises.")}
    file = written(tmp_path / "g", zipped(state))
    g, again = open_generator(file), open_generator(file)
    assert g.fingerprint == again.fingerprint
    assert g.provenance is not None
    assert g.provenance.computed["noise"] == "7 noise maps drawn, seed 0"
    assert 0.9 < float(g.synthesis.convs[6].noise.std()) < 1.1
    torch.testing.assert_close(g.synthesis.convs[3].weight, plain["g_ema"]["convs.2.conv.weight"][0])


def test_half_precision_files(tmp_path: Path, plain: Data) -> None:
    half = {"g_ema": {k: v.half() for k, v in plain["g_ema"].items()}, "latent_avg": plain["latent_avg"]}
    g = open_generator(written(tmp_path / "g", zipped(half)))
    assert g.synthesis.const.dtype == torch.float32
    torch.testing.assert_close(g.synthesis.const, plain["g_ema"]["input.input"][0].half().float())


def test_a_w_plus_average_is_averaged(tmp_path: Path, plain: Data) -> None:
    rows = torch.randn(8, 64)
    g = open_generator(written(tmp_path / "g", zipped({"g_ema": plain["g_ema"], "latent_avg": rows})))
    torch.testing.assert_close(g.w_mean, rows.mean(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"convs.1.conv.weight": torch.full((1, 32, 32, 3, 3), torch.inf)}, "convs.1.conv.weight holds values"),
        (
            {"convs.0.conv.blur.kernel": torch.ones(4, 4) / 4},
            r"convs.0.conv.blur.kernel of shape .* is not \[1, 3, 3, 1\]",
        ),
        ({"convs.0.iwt.ll": torch.ones(2, 2)}, r"unexpected keys \['convs.0.iwt.ll'\]"),
        ({"convs.4.conv.weight": None}, r"missing keys \['convs.4.conv.weight'\]"),
        ({"input.input": torch.zeros(1, 48, 4, 4)}, r"input.input has shape \(1, 48, 4, 4\), expected \(32, 4, 4\)"),
        ({"style.8.bias": torch.zeros(64, dtype=torch.int32)}, "style.8.bias has type torch.int32"),
    ],
)
def test_refusals_name_the_tensor(tmp_path: Path, plain: Data, change: dict[str, Tensor | None], message: str) -> None:
    state = {k: v for k, v in {**plain["g_ema"], **change}.items() if v is not None}
    with pytest.raises(WeightsRefused, match=message):
        open_generator(written(tmp_path / "g", zipped({"g_ema": state})))


def test_tensors_that_repeat_a_small_storage_are_refused(tmp_path: Path, plain: Data) -> None:
    """A megabyte that claims to be a network of gigabytes."""
    one = torch.zeros(2**18)
    state = {k: one.as_strided(v.shape, (0,) * v.ndim) for k, v in plain["g_ema"].items()}
    state["style.1.weight"] = torch.zeros(1).expand(65536, 65536)
    with pytest.raises(WeightsRefused, match="repeats a storage"):
        open_generator(written(tmp_path / "g", zipped({"g_ema": state})))
