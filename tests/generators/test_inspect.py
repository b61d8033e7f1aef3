"""What ``inspect_weights`` says of files, and how it refuses what it cannot open."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ganinv.codes.code import Code
from ganinv.errors import WeightsRefused
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.files import EMBEDDED, open_generator, save_generator
from ganinv.generators.grid import sample_grid
from ganinv.generators.stylegan2 import Generator
from ganinv.weights.inspection import inspect_weights
from tests.tiny import tiny_generator


@pytest.mark.seconds
def test_an_nvidia_pickle(made: Path) -> None:
    file = made / "nvidia/ada_r64_cond3_fp16.pkl"
    found = inspect_weights(str(file))
    assert found.summary == (
        "A StyleGAN2 generator (nvidia layout) of 64x64 images, conditional on 3 classes, and a discriminator of 64x64 "
        "images, in a pickle"
    )
    assert found.size == file.stat().st_size
    assert [(n.kind, n.role, n.layout) for n in found.networks] == [
        ("generator", "G", "nvidia"),
        ("discriminator", "D", "nvidia"),
        ("generator", "G_ema", "nvidia"),
    ]
    g, same = found.generator, open_generator(str(file))
    assert g is not None
    assert (g.network, g.family, g.resolution, g.z_dim, g.w_dim, g.c_dim) == ("G_ema", "stylegan2", 64, 64, 64, 3)
    assert (g.num_fp16_res, g.conv_clamp, g.architecture, g.mapping_layers) == (4, 256.0, "skip", 8)
    assert g.channels == {4: 32, 8: 32, 16: 32, 32: 32, 64: 16}
    assert g.fingerprint == same.fingerprint
    assert g.parameters["all"] == sum(p.numel() for p in [*same.mapping.parameters(), *same.synthesis.parameters()])
    assert g.w_mean_norm == pytest.approx(float(same.w_mean.norm()), rel=1e-5)
    assert g.w_std == float(same.w_std)
    assert g.computed == {"w_std": {"samples": 10_000, "seed": 123}}
    assert found.discriminator is not None
    assert found.discriminator.architecture == "resnet"


@pytest.mark.seconds
def test_a_named_network(made: Path) -> None:
    file = str(made / "nvidia/ada_r32_uncond.pkl")
    average, raw, critic = (inspect_weights(file, network=n) for n in ("G_ema", "G", "D"))  # type: ignore[arg-type]
    assert average.generator is not None
    assert raw.generator is not None
    assert raw.generator.network == "G"
    assert raw.generator.fingerprint != average.generator.fingerprint
    assert critic.generator is None
    assert critic.summary == "A discriminator of 32x32 images, in a pickle"


@pytest.mark.parametrize(
    ("name", "layout", "container"),
    [
        ("rosinality/ros_r32_train_ckpt.pt", "rosinality", "torch zip"),
        ("rosinality/ros_r32_style512_oldzip.pt", "rosinality", "torch stream"),
        ("nvidia/tf_legacy_r32.pkl", "tensorflow", "pickle"),
        ("nvidia/pti_tuned_r32.pt", "nvidia", "torch zip"),
    ],
)
def test_other_dialects(made: Path, name: str, layout: str, container: str) -> None:
    found = inspect_weights(str(made / name))
    assert found.generator is not None
    assert (found.generator.layout, found.container) == (layout, container)
    assert (found.discriminator is None) == bool(found.no_discriminator)


def test_what_was_computed_and_assumed_is_told(made: Path) -> None:
    found = inspect_weights(str(made / "rosinality/ros_r32_train_ckpt.pt"))
    assert found.generator is not None
    assert found.generator.computed["w_mean"] == {"samples": 10_000, "seed": 123}


def test_the_embedded_networks() -> None:
    found = inspect_weights(EMBEDDED)
    assert found.generator is not None
    assert found.generator.fingerprint == open_generator().fingerprint
    assert found.container == "safetensors"
    assert [n.role for n in found.networks] == ["G_ema", "D"]
    encoder = inspect_weights("e4e").encoder
    assert encoder is not None
    assert (encoder.method, encoder.n_styles, encoder.input_size) == ("e4e", 10, (64, 64))
    assert encoder.generator == {"name": EMBEDDED, "fingerprint": found.generator.fingerprint}


def test_everything_is_json(made: Path) -> None:
    for name in ("nvidia/ada_r64_cond3_fp16.pkl", "encoders/idinvert_encoder_r64.pth"):
        json.dumps(asdict(inspect_weights(str(made / name))))


def test_a_published_encoder_without_a_generator(made: Path) -> None:
    found = inspect_weights(str(made / "encoders/idinvert_encoder_r64.pth"))
    assert found.generator is None
    assert found.encoder is not None
    assert found.encoder.parts == {"encoder": 595968}
    assert found.summary == "An encoder (in-domain, StyleGANEncoderNet) for 10 rows of W+, in a torch file"


def checkpoint_with_decoder(file: Path, encoder: dict[str, Any], opts: dict[str, Any], g: Generator) -> None:
    """A checkpoint as the encoder programs write it: one state dict, a prefix for each network."""
    save_generator(g, str(file), "rosinality")
    decoder = torch.load(file, weights_only=False)["g_ema"]
    state = {f"encoder.{k}": v for k, v in encoder.items()} | {f"decoder.{k}": v for k, v in decoder.items()}
    torch.save({"state_dict": state, "opts": opts, "latent_avg": g.w_mean.expand(g.num_ws, -1).clone()}, file)


def test_an_encoder_with_its_decoder(tmp_path: Path) -> None:
    g = tiny_generator(16)
    file = tmp_path / "e4e.pt"
    encoder = {"input_layer.0.weight": torch.zeros(64, 3, 3, 3), "styles.5.linear.weight": torch.zeros(4, 4)}
    checkpoint_with_decoder(file, encoder, {"encoder_type": "Encoder4Editing", "lr": 1e-4}, g)
    found = inspect_weights(str(file))
    assert found.encoder is not None
    assert found.generator is not None
    assert (found.encoder.method, found.encoder.n_styles) == ("e4e", 6)
    assert found.encoder.latent_avg == (6, 16)
    assert found.encoder.opts["lr"] == 1e-4
    assert found.generator.fingerprint == g.fingerprint
    assert found.summary.startswith("An encoder (e4e, Encoder4Editing) for 6 rows of W+, and a StyleGAN2 generator")


def test_an_encoder_that_cannot_be_told_is_said_beside_its_decoder(tmp_path: Path) -> None:
    file = tmp_path / "unknown.pt"
    checkpoint_with_decoder(file, {"styles.5.linear.weight": torch.zeros(4, 4)}, {}, tiny_generator(16))
    found = inspect_weights(str(file))
    assert found.encoder is None
    assert found.generator is not None
    assert "do not name the encoder type" in found.encoder_refused
    named = inspect_weights(str(file), encoder_type="GradualStyleEncoder")
    assert named.encoder is not None
    assert named.encoder.method == "psp"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("quota_page.pkl", "it is a web page, not a checkpoint"),
        ("truncated.pkl", "incomplete"),
        ("touch_os_system.pkl", "nothing was run"),
        ("missing_keys.safetensors", "missing keys"),
        ("nan_weights.pt", "convs.1.conv.weight holds values that are not finite"),
    ],
)
def test_bad_files_are_refused_in_words(made: Path, name: str, words: str) -> None:
    with pytest.raises(WeightsRefused, match=words):
        inspect_weights(str(made / "bad" / name))


def test_other_networks_are_named(made: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsRefused, match=r"this is StyleGAN3.*it has a discriminator, which network D shows"):
        inspect_weights(str(made / "nvidia/sg3t_r32.pkl"))
    torch.save({"output_layer.3.weight": torch.zeros(2), "body.0.res_layer.0.weight": torch.zeros(2)}, tmp_path / "a")
    with pytest.raises(WeightsRefused, match="the ArcFace IR-SE-50 face network"):
        inspect_weights(str(tmp_path / "a"))
    torch.save({"layers.0.attn.weight": torch.zeros(2)}, tmp_path / "t")
    with pytest.raises(WeightsRefused, match="this is a transformer"):
        inspect_weights(str(tmp_path / "t"))
    with pytest.raises(WeightsRefused, match="no generator at"):
        inspect_weights(str(tmp_path / "nothing"))


def test_a_name_of_the_catalogue_says_how_to_get_it() -> None:
    with pytest.raises(WeightsRefused, match="bring it to a store with: ganinv import ffhq-1024"):
        inspect_weights("ffhq-1024")
    with pytest.raises(WeightsRefused, match="did you mean 'ffhq-1024'"):
        open_generator("ffhq1024")


def test_the_sheet_of_samples_follows_from_the_seed() -> None:
    g = tiny_generator(16)
    sheets = [np.array(sample_grid(g, 2, 3, seed=s)) for s in (1, 1, 2)]
    assert sheets[0].shape == (32, 48, 3)
    assert np.array_equal(sheets[0], sheets[1])
    assert not np.array_equal(sheets[0], sheets[2])
    assert np.array(sample_grid(g, 2, 3, largest=8)).shape == (16, 24, 3)


def test_the_sheet_of_a_conditional_grey_generator() -> None:
    torch.manual_seed(0)
    cfg = GeneratorConfig(resolution=8, channels=(4, 4), z_dim=4, w_dim=4, c_dim=2, img_channels=1, mapping_layers=1)
    g = Generator(cfg).eval()
    sheet = np.array(sample_grid(g, 1, 2, seed=0))
    assert sheet.shape == (8, 16, 3)
    assert np.array_equal(sheet[..., 0], sheet[..., 2])
    w = g.map(torch.randn(2, 4, generator=torch.Generator().manual_seed(0)), torch.eye(2))
    want = ((g.render(Code(w=w)).clamp(-1, 1) + 1) * 127.5).round().byte()
    assert np.array_equal(sheet[:, :8, 0], want[0, 0].numpy())
    assert np.array_equal(sheet[:, 8:, 0], want[1, 0].numpy())
