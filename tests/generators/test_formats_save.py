"""Round trips through every format that is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ganinv.codes.code import Code
from ganinv.errors import ConfigError
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.files import EMBEDDED, open_generator, save_generator
from ganinv.generators.stylegan2 import Generator, GeneratorConfig
from tests.generators.originals import check_nvidia, check_rosinality, golden
from tests.tiny import random_w, tiny_generator

FORMATS: list[Any] = ["ganinv", "rosinality", "nvidia"]


def same(a: Generator, b: Generator) -> None:
    """Bit for bit: weights, statistics, images, logits."""
    assert a.fingerprint == b.fingerprint
    assert torch.equal(a.w_std, b.w_std)
    c = torch.eye(a.c_dim)[:1].expand(2, -1) if a.c_dim else None
    w = a.map(torch.randn(2, a.z_dim), c)
    images = a.synthesize(Code(w=w))
    assert torch.equal(images, b.synthesize(Code(w=w)))
    assert (a.discriminator is None) == (b.discriminator is None)
    if a.discriminator is not None and b.discriminator is not None:
        assert a.discriminator.cfg == b.discriminator.cfg
        torch.testing.assert_close(a.discriminator(images, c), b.discriminator(images, c), atol=0, rtol=0)


@pytest.mark.parametrize("format", FORMATS)
def test_round_trip_is_exact(tmp_path: Path, format: Any) -> None:
    g = tiny_generator()
    uri = str(tmp_path / "some/folder/g.pt")
    save_generator(g, uri, format)
    again = open_generator(uri)
    assert again.cfg == g.cfg
    same(g.to(memory_format=torch.channels_last), again)


@pytest.mark.parametrize("format", FORMATS)
def test_round_trip_of_the_embedded_generator(format: Any) -> None:
    g = open_generator(EMBEDDED)
    save_generator(g, f"memory://formats/{format}", format, extra={"licence": "mine"})
    same(g, open_generator(f"memory://formats/{format}"))


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
@pytest.mark.parametrize("format", ["ganinv", "nvidia"])
def test_conditional_networks_of_every_architecture(tmp_path: Path, format: Any, architecture: Any) -> None:
    torch.manual_seed(0)
    cfg = GeneratorConfig(resolution=16, channels=(8, 8, 4), z_dim=6, w_dim=8, c_dim=3, img_channels=1, mapping_layers=3,
                          mapping_lr_mul=0.1, architecture=architecture, num_fp16_res=1, conv_clamp=64)  # fmt: skip
    g = Generator(cfg)
    g.discriminator = Discriminator(16, (8, 8, 4), 1, group=2, c_dim=3, cmap_dim=5, mapping_layers=2,
                                    architecture=architecture, std_channels=2, conv_clamp=64, num_fp16_res=2)  # fmt: skip
    g.measure_w(500)
    save_generator(g, str(tmp_path / "g"), format)
    again = open_generator(str(tmp_path / "g"))
    assert again.cfg == cfg
    same(g.eval().to(memory_format=torch.channels_last), again)


@pytest.mark.seconds
@pytest.mark.parametrize("name", ["ada_r64_cond3_fp16", "ada_r32_arch_resnet"])
def test_an_nvidia_file_keeps_its_values_through_our_formats(shared: Path, tmp_path: Path, name: str) -> None:
    g = open_generator(str(shared / f"golden/nvidia/{name}.pkl"))
    for format in ("ganinv", "nvidia"):
        save_generator(g, str(tmp_path / format), format)  # type: ignore[arg-type]
    same(g, open_generator(str(tmp_path / "nvidia")))
    again = open_generator(str(tmp_path / "ganinv"))
    check_nvidia(again, golden(shared / f"golden/nvidia/{name}.npz"))


@pytest.mark.seconds
def test_from_nvidia_to_rosinality(made: Path, tmp_path: Path) -> None:
    """What clamps do is lost (the layout has no place for them), the weights and the discriminator's are not."""
    g = open_generator(str(made / "nvidia/ada_r32_w512_map2.pkl"))
    save_generator(g, str(tmp_path / "g.pt"), "rosinality")
    again = open_generator(str(tmp_path / "g.pt"))
    assert again.fingerprint == g.fingerprint
    assert again.cfg.conv_clamp is None
    held = torch.load(tmp_path / "g.pt", weights_only=True)
    assert held["ganinv"]["conv_clamp"] == 256
    assert "d" not in held  # its minibatch groups are not those of the layout


@pytest.mark.parametrize("name", ["ros_r32_narrow", "ros_r32_train_ckpt"])
def test_rosinality_files_have_the_names_of_the_original(shared: Path, tmp_path: Path, name: str) -> None:
    """Their own code loads strictly: the same keys with the same shapes."""
    want = golden(shared / f"golden/rosinality/{name}.npz")
    g = open_generator(str(shared / f"golden/rosinality/{name}.pt"))
    save_generator(g, str(tmp_path / "g.pt"), "rosinality")
    held = torch.load(tmp_path / "g.pt", weights_only=True)
    original = torch.load(shared / f"golden/rosinality/{name}.pt", weights_only=False)
    for role in held.keys() & original.keys() - {"latent_avg"}:
        assert {k: v.shape for k, v in held[role].items()} == {k: v.shape for k, v in original[role].items()}
        for key, tensor in original[role].items():
            torch.testing.assert_close(held[role][key], tensor, atol=0, rtol=0)
    check_rosinality(open_generator(str(tmp_path / "g.pt")), want, truncation="train" not in name)


@pytest.mark.parametrize("name", ["ada_r32_uncond", "ada_r64_cond3_fp16", "ada_r32_arch_resnet"])
def test_nvidia_state_dicts_have_the_names_of_the_original(shared: Path, tmp_path: Path, name: str) -> None:
    want = golden(shared / f"golden/nvidia/{name}.npz")
    save_generator(open_generator(str(shared / f"golden/nvidia/{name}.pkl")), str(tmp_path / "g.pt"), "nvidia")
    held = torch.load(tmp_path / "g.pt", weights_only=True)
    described = {f"{k}|{'x'.join(map(str, v.shape))}" for k, v in held["G_ema"].items()}
    names = {entry.split("|")[0] for entry in want["state_keys"]}
    assert {entry.split("|")[0] for entry in described} == names
    kwargs = held["config"]["init_kwargs"]["G"]
    assert kwargs["img_resolution"] == (64 if "r64" in name else 32)
    assert kwargs["synthesis_kwargs"]["channel_max"] == 32


def test_half_precision(tmp_path: Path) -> None:
    g = tiny_generator()
    prints = set()
    for format in FORMATS:
        save_generator(g, str(tmp_path / format), format, half=True)
        once = open_generator(str(tmp_path / format))
        torch.testing.assert_close(once.synthesis.const, g.synthesis.const.half().float())
        prints.add(once.fingerprint)
    assert g.fingerprint not in prints


def test_what_a_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    g = Generator(GeneratorConfig(resolution=8, channels=(4, 4), z_dim=8, w_dim=8, c_dim=2, mapping_layers=1))
    with pytest.raises(ConfigError, match="cannot hold this generator: it is conditional; save it as ganinv or nvidia"):
        save_generator(g, str(tmp_path / "g"), "rosinality")
    with pytest.raises(ConfigError, match="unknown format 'onnx'; there are: ganinv, rosinality, nvidia"):
        save_generator(tiny_generator(), str(tmp_path / "g"), "onnx")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_random_w_is_that_of_the_saved_generator(tmp_path: Path) -> None:
    g = tiny_generator()
    save_generator(g, str(tmp_path / "g"), "nvidia")
    assert torch.equal(random_w(g, 3), random_w(open_generator(str(tmp_path / "g")), 3))
