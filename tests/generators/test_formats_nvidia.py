"""NVIDIA's pickles: parity with the original implementation, variants of the files, and what is refused."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ganinv.codes.code import Code
from ganinv.errors import WeightsRefused
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from tests.generators.originals import Persistent, check_nvidia, close, golden, module, rewritten
from tests.reading.pickles import written, zipped

CASES = {
    "ada_r32_uncond": {"z_dim": 64, "mapping_layers": 8, "architecture": "skip"},
    "ada_r64_cond3_fp16": {"c_dim": 3, "num_fp16_res": 4, "conv_clamp": 256},
    "ada_r32_w512_map2": {"w_dim": 512, "mapping_layers": 2, "num_fp16_res": 3},
    "ada_r32_cifar_like": {"c_dim": 10, "mapping_layers": 2, "conv_clamp": None},
    "ada_r32_arch_resnet": {"architecture": "resnet"},
    "sg3repo_stylegan2_r32": {"num_fp16_res": 3, "conv_clamp": 256},
    "pti_tuned_r32": {"num_fp16_res": 0},
}


def file_of(shared: Path, name: str) -> Path:
    return next((shared / "golden/nvidia").glob(f"{name}.p[kt]*"))


@pytest.mark.parametrize("name", CASES)
def test_equals_the_original_implementation(shared: Path, name: str) -> None:
    g = open_generator(str(file_of(shared, name)))
    for key, value in CASES[name].items():
        assert getattr(g.cfg, key) == value
    check_nvidia(g, golden(shared / f"golden/nvidia/{name}.npz"))
    assert g.provenance is not None
    assert (g.provenance.layout, g.provenance.network, g.name) == ("nvidia", "G_ema", name)
    assert g.provenance.computed == {"w_std": {"samples": 10_000, "seed": 123}}
    assert (g.discriminator is None) == (g.provenance.no_discriminator == "the file has no discriminator")
    assert not any(p.requires_grad for p in g.parameters())


@pytest.fixture(scope="module")
def uncond(made: Path) -> Path:
    return made / "nvidia/ada_r32_uncond.pkl"


def test_networks_by_name(uncond: Path) -> None:
    g_ema, g = open_generator(str(uncond)), open_generator(str(uncond), network="G")
    assert g.fingerprint != g_ema.fingerprint
    assert open_generator(str(uncond), network="G_ema").fingerprint == g_ema.fingerprint
    d = open_generator(str(uncond), network="D")
    assert isinstance(d, Discriminator)
    images = torch.randn(2, 3, 32, 32)
    assert g_ema.discriminator is not None
    assert torch.equal(d(images), g_ema.discriminator(images))
    assert [f.shape[-1] for f in d.features(images)] == [32, 16, 8, 4]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_protocols_and_containers(tmp_path: Path, uncond: Path, protocol: int) -> None:
    again = open_generator(written(tmp_path / "g", rewritten(uncond, protocol)))
    assert again.fingerprint == open_generator(str(uncond)).fingerprint
    assert again.discriminator is not None


def test_source_code_in_the_file_is_never_run(
    made: Path, uncond: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    g = open_generator(str(made / "bad/embedded_source_acts.pkl"))
    assert g.fingerprint == open_generator(str(uncond)).fingerprint
    assert not list(tmp_path.iterdir())


def test_stylegan3_is_refused_in_words(made: Path) -> None:
    with pytest.raises(WeightsRefused, match=r"sg3t_r32.pkl: no StyleGAN2 in it: this is StyleGAN3"):
        open_generator(str(made / "nvidia/sg3t_r32.pkl"))


def in_g_ema(path: str, change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """A change of one submodule of G_ema."""
    return lambda tree: change(module(tree["G_ema"], path))


def set_to(kind: str, name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        (state[kind] if kind else state)[name] = value

    return change


REFUSED = {
    "nan": ("synthesis.b8.conv0", set_to("_parameters", "weight", torch.full((32, 32, 3, 3), torch.nan)),
            "tensor synthesis.b8.conv0.weight holds values that are not finite"),
    "shape": ("synthesis.b8.conv0", set_to("_parameters", "weight", torch.zeros(32, 32, 3, 5)),
              r"tensor synthesis.b8.conv0.weight has shape \(32, 32, 3, 5\), expected \(32, 32, 3, 3\)"),
    "type": ("synthesis.b8.conv0", set_to("_parameters", "bias", torch.zeros(32, dtype=torch.int64)),
             "synthesis.b8.conv0.bias has type torch.int64"),
    "missing": ("synthesis.b8.conv0.affine", lambda s: s["_parameters"].clear(),
                r"missing keys \['synthesis.b8.conv0.affine.weight', 'synthesis.b8.conv0.affine.bias'\]"),
    "filter": ("synthesis.b8.conv0", set_to("_buffers", "resample_filter", torch.full((4, 4), 1 / 16)),
               r"filter synthesis.b8.conv0.resample_filter of shape \(4, 4\) is not \[1, 3, 3, 1\]"),
    "activation": ("synthesis.b8.conv0", set_to("", "activation", "relu"), "activation 'relu' in synthesis.b8.conv0"),
    "clamps": ("synthesis.b8.conv0", set_to("", "conv_clamp", 100), "different clamps"),
    "extra": ("synthesis.b8", set_to("_parameters", "gate", torch.zeros(3)), r"unexpected keys \['synthesis.b8.gate'\]"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_another_network_is_refused(tmp_path: Path, uncond: Path, case: str) -> None:
    path, change, message = REFUSED[case]
    data = rewritten(uncond, 4, in_g_ema(path, change))
    with pytest.raises(WeightsRefused, match=message):
        open_generator(written(tmp_path / "g", data))


def test_an_unusable_discriminator_does_not_keep_the_generator_out(tmp_path: Path, uncond: Path) -> None:
    data = rewritten(uncond, 4, lambda tree: module(tree["D"], "b16.conv0")["_parameters"].clear())
    g = open_generator(written(tmp_path / "g", data))
    assert g.discriminator is None
    assert g.provenance is not None
    assert "missing keys ['b16.conv0.weight', 'b16.conv0.bias']" in g.provenance.no_discriminator


def test_without_noise_inputs_and_with_an_average_only(tmp_path: Path, uncond: Path) -> None:
    """use_noise=False leaves the noise tensors out; a file may hold G alone."""

    def change(tree: dict[str, Any]) -> None:
        for block in ("b4", "b8", "b16", "b32"):
            for layer in ("conv0", "conv1")[block == "b4" :]:
                state = module(tree["G_ema"], f"synthesis.{block}.{layer}")
                state["use_noise"] = False
                del state["_parameters"]["noise_strength"], state["_buffers"]["noise_const"]
        tree["G"] = tree.pop("G_ema")

    g = open_generator(written(tmp_path / "g", rewritten(uncond, 4, change)))
    whole = open_generator(str(uncond))
    code = Code(w=whole.map(torch.randn(2, 64)))
    close(g.synthesize(code), whole.synthesize(code, noise="none"))
    assert (whole.synthesize(code) - g.synthesize(code)).abs().max() > 0.01
    assert g.provenance is not None
    assert g.provenance.network == "G"


@pytest.mark.seconds
def test_a_module_saved_whole_or_as_a_state_dict(tmp_path: Path, uncond: Path) -> None:
    """torch.save of G.state_dict(), alone, under ``module.``, or in a training checkpoint."""
    whole = open_generator(str(uncond))
    tensors: dict[str, torch.Tensor] = {}

    def walk(network: Persistent, prefix: str) -> None:
        state = network.meta["state"]
        for kind in ("_parameters", "_buffers"):
            tensors.update({f"{prefix}{n}": t for n, t in state[kind].items()})
        for name, child in state["_modules"].items():
            walk(child, f"{prefix}{name}.")

    rewritten(uncond, 4, lambda tree: walk(tree["G_ema"], ""))
    opts = argparse.Namespace(lr=0.1)
    for case in (
        tensors,
        {f"module.{k}": v for k, v in tensors.items()},
        {"G_ema": tensors, "opts": opts},
        {"state_dict": {f"generator.{k}": v for k, v in tensors.items()}, "step": 3},
    ):
        g = open_generator(written(tmp_path / "g", zipped(case)))
        assert g.fingerprint == whole.fingerprint
        assert g.provenance is not None
        assert g.provenance.assumed["mapping_lr_mul"] == 0.01
    code = Code(w=whole.map(torch.randn(2, 64)))
    close(g.synthesize(code), whole.synthesize(code))


def test_w_std_is_that_of_the_projector(uncond: Path) -> None:
    g = open_generator(str(uncond))
    assert isinstance(g, Generator)
    z = torch.randn(10_000, 64, generator=torch.Generator().manual_seed(123))
    w = g.mapping(z)
    torch.testing.assert_close(g.w_std, (w - w.mean(0)).square().sum(1).mean().sqrt())
