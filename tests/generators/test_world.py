"""Files as they are in the world: BasicSR's names, images that are not square, networks that only look like StyleGAN2."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.errors import WeightsRefused
from ganinv.generators.files import open_generator, save_generator
from tests.generators.test_formats_other import genforce_state
from tests.tiny import random_w, tiny_generator


def rosinality(folder: Path) -> dict[str, Any]:
    save_generator(tiny_generator(), str(folder / "rosinality.pt"), "rosinality")
    return dict(torch.load(folder / "rosinality.pt", weights_only=True))


def as_basicsr(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What ``StyleGAN2Generator`` and ``StyleGAN2Discriminator`` of basicsr/archs store: their filters are not stored."""
    rules = (
        (r"^input\.input$", "constant_input.weight"),
        (r"^style\.", "style_mlp."),
        (r"^(conv1|convs\.\d+)\.noise\.weight$", r"style_\1.weight"),
        (r"^(conv1|convs\.\d+)\.conv\.", r"style_\1.modulated_conv."),
        (r"^(conv1|convs\.\d+)\.activate", r"style_\1.activate"),
        (r"^(to_rgb1|to_rgbs\.\d+)\.conv\.", r"\1.modulated_conv."),
        (r"^noises\.noise_", "noises.noise"),
    )
    out = {}
    for name, tensor in state.items():
        if not name.endswith("kernel"):
            for pattern, theirs in rules:
                name, changed = re.subn(pattern, theirs, name)
                if changed:
                    break
            out[name] = tensor
    return out


def discriminator_as_basicsr(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {re.sub(r"^convs\.", "conv_body.", n): t for n, t in state.items() if not n.endswith("kernel")}


@pytest.mark.parametrize("wrapped", ["params_ema", "params", "plain", "gfpgan"])
def test_basicsr(tmp_path: Path, wrapped: str) -> None:
    g, file = tiny_generator(), rosinality(tmp_path)
    state: dict[str, Any] = as_basicsr(file["g_ema"])
    assert {"style_conv1.weight", "style_convs.0.modulated_conv.modulation.bias", "noises.noise0"} <= state.keys()
    if wrapped == "gfpgan":
        state = {"params_ema": {f"stylegan_decoder.{name}": tensor for name, tensor in state.items()}}
    elif wrapped != "plain":
        state = {wrapped: state, "latent_avg": file["latent_avg"]}
        if wrapped == "params_ema":
            state["params"] = as_basicsr(rosinality_of_another(tmp_path))
    torch.save(state, tmp_path / "net_g.pth")
    opened = open_generator(str(tmp_path / "net_g.pth"))
    assert opened.provenance is not None
    assert opened.provenance.layout == "basicsr"
    w = random_w(g, 2)
    torch.testing.assert_close(opened.synthesize(Code(w)), g.synthesize(Code(w)), atol=1e-5, rtol=1e-5)
    z = torch.randn(2, 16)
    torch.testing.assert_close(opened.map(z), g.map(z), atol=1e-5, rtol=1e-5)
    if "latent_avg" in state:
        torch.testing.assert_close(opened.w_mean, g.w_mean)


def rosinality_of_another(folder: Path) -> dict[str, Tensor]:
    save_generator(tiny_generator(seed=5), str(folder / "other.pt"), "rosinality")
    return dict(torch.load(folder / "other.pt", weights_only=True)["g_ema"])


def test_basicsr_discriminator(tmp_path: Path) -> None:
    g, file = tiny_generator(), rosinality(tmp_path)
    torch.save({"params": discriminator_as_basicsr(file["d"])}, tmp_path / "net_d.pth")
    opened = open_generator(str(tmp_path / "net_d.pth"), network="D")
    images = g.render(Code(random_w(g, 4)))
    assert g.discriminator is not None
    torch.testing.assert_close(opened(images), g.discriminator(images), atol=1e-4, rtol=1e-4)


def test_a_basicsr_file_with_more_in_it_is_refused(tmp_path: Path) -> None:
    state = as_basicsr(rosinality(tmp_path)["g_ema"])
    torch.save(state | {"condition_scale.0.weight": torch.zeros(3)}, tmp_path / "g.pth")
    with pytest.raises(WeightsRefused, match="condition_scale"):
        open_generator(str(tmp_path / "g.pth"))


@pytest.mark.parametrize("dialect", ["rosinality", "nvidia", "hammer", "basicsr"])
@pytest.mark.parametrize(
    ("height", "width", "says"), [(8, 4, "256x128|64x32"), (4, 7, "not square"), (8, 8, "begins at 8x8")]
)
def test_images_that_are_not_square_are_refused_by_what_they_are(
    tmp_path: Path, dialect: str, height: int, width: int, says: str
) -> None:
    """Forks with ``init_res``: their constant is 8x4, and each of the noise maps has its shape."""
    g = tiny_generator()
    if dialect == "nvidia":
        save_generator(g, str(tmp_path / "g.pt"), "nvidia")
        tree: dict[str, Any] = dict(torch.load(tmp_path / "g.pt", weights_only=True))
        key = "synthesis.b4.const"
        state = next(value for value in tree.values() if isinstance(value, dict) and key in value)
    else:
        plain = rosinality(tmp_path)["g_ema"]
        state = {"rosinality": plain, "basicsr": as_basicsr(plain), "hammer": genforce_state(g, hammer=True)}[dialect]
        key = {
            "rosinality": "input.input",
            "basicsr": "constant_input.weight",
            "hammer": "synthesis.early_layer.const",
        }[dialect]
        tree = state
    state[key] = torch.randn(*state[key].shape[:-2], height, width)
    torch.save(tree, tmp_path / "wide.pt")
    with pytest.raises(WeightsRefused, match=says) as refused:
        open_generator(str(tmp_path / "wide.pt"))
    assert f"{height}x{width}" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("generator_ema.style_mapping.1.weight", "MMGeneration"),
        ("G.blocks.0.to_style1.weight", "lucidrains"),
        ("blocks.3.to_noise1.weight", "lucidrains"),
    ],
)
def test_networks_of_other_projects_are_named(tmp_path: Path, name: str, says: str) -> None:
    torch.save({name: torch.zeros(3, 3)}, tmp_path / "g.pt")
    with pytest.raises(WeightsRefused, match=says):
        open_generator(str(tmp_path / "g.pt"))
