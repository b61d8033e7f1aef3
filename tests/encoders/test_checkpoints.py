"""What the reader says of published checkpoints, and what it refuses. Names and shapes are those of the golden data."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ganinv.errors import GeneratorMismatch, WeightsRefused
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.base import Inverter
from ganinv.methods.files import open_inverter, save_inverter
from ganinv.methods.in_domain import InDomainEncoder
from ganinv.methods.psp import Psp, PspConfig
from ganinv.methods.published.checkpoints import open_encoder_checkpoint
from ganinv.methods.published.describe import describe
from ganinv.methods.restyle import ReStyle, ReStyleConfig
from ganinv.stages.method import load_method
from ganinv.target import Target
from tests.encoders.outlines import outline
from tests.tiny import tiny_generator


@pytest.mark.parametrize(
    ("case", "method", "encoder_type", "n_styles", "channels"),
    [
        ("psp_gradual_r32", "psp", "GradualStyleEncoder", 8, 3),
        ("psp_w_r32", "w", "BackboneEncoderUsingLastLayerIntoW", 8, 3),
        ("e4e_r32", "e4e", "Encoder4Editing", 8, 3),
        ("restyle_psp_backbone_r32", "restyle-psp", "BackboneEncoder", 8, 6),
        ("restyle_e4e_resnet_r32", "restyle-e4e", "ResNetProgressiveBackboneEncoder", 8, 6),
        ("hyperstyle_w_encoder_r256", "w", "WEncoder", 14, 3),
        ("hyperstyle_r256", "hyperstyle", None, 14, 6),
        ("hfgi_fusion_r128", "hfgi", None, 12, 3),
    ],
)
def test_what_it_is(case: str, method: str, encoder_type: str | None, n_styles: int, channels: int) -> None:
    tree = outline(case)
    what = describe(tree)
    assert (what.method, what.encoder_type, what.n_styles) == (method, encoder_type, n_styles)
    assert (what.input_channels, what.input_size) == (channels, (256, 256))
    assert what.opts == tree["opts"]
    assert set(what.parts) == {key.partition(".")[0] for key in tree["state_dict"]}


def test_rows_without_heads_follow_from_decoder_then_options_then_the_mean() -> None:
    tree = outline("psp_w_r32")
    assert describe(tree).n_styles == 8
    without = outline("psp_w_r32", "encoder.")
    without["opts"] |= {"output_size": 1024}
    assert describe(without).n_styles == 18
    bare = without | {"opts": {"encoder_type": "WEncoder"}, "latent_avg": torch.zeros(16, 512)}
    assert describe(bare).n_styles == 16
    with pytest.raises(WeightsRefused, match="how many rows of W\\+"):
        describe(bare | {"latent_avg": torch.zeros(512)})


def test_options_may_be_a_namespace_and_hold_anything() -> None:
    tree = outline("e4e_r32")
    endless: list[Any] = []
    endless.append(endless)
    tree["opts"] = argparse.Namespace(**tree["opts"], path=Path("/x"), progressive=(0, 1), endless=endless)
    what = describe(tree)
    assert what.method == "e4e"
    assert what.opts["progressive"] == [0, 1]
    assert json.loads(json.dumps(what.opts))["path"].startswith("<")


def test_a_parallel_wrapper_is_looked_through() -> None:
    tree = outline("e4e_r32")
    tree["state_dict"] = {f"module.{key}": value for key, value in tree["state_dict"].items()}
    assert set(describe(tree).parts) == {"encoder", "decoder"}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_state_dict_without_the_dictionary_around_it(prefix: str) -> None:
    """As a file of safetensors holds it, with the mean latent among the tensors."""
    tree = outline("psp_w_r32")
    bare = {f"{prefix}{name}": tensor for name, tensor in tree["state_dict"].items()}
    what = describe(bare | {"latent_avg": tree["latent_avg"]})
    assert (what.method, what.encoder_type, what.n_styles) == ("w", "WEncoder", 8)
    assert what.latent_avg is not None
    assert set(what.parts) == {"encoder", "decoder"}
    with pytest.raises(WeightsRefused, match="its options do not name the encoder type"):
        describe(outline("e4e_r32")["state_dict"])
    e4e = describe(outline("e4e_r32")["state_dict"], encoder_type="Encoder4Editing")
    assert (e4e.method, e4e.latent_avg) == ("e4e", None)


def test_cars_are_not_square_and_cartoons_are() -> None:
    tree = outline("e4e_r32")
    tree["opts"]["dataset_type"] = "cars_encode"
    assert describe(tree).input_size == (192, 256)
    tree["opts"]["dataset_type"] = "cartoons_encode"
    assert describe(tree).input_size == (256, 256)


def test_hfgi_packed_again() -> None:
    state = outline("hfgi_fusion_r128")["state_dict"]

    def part(name: str) -> dict[str, Tensor]:
        return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}

    what = describe({"decoder": part("decoder"), "align": part("grid_align"), "res": part("residue")})
    assert (what.method, set(what.parts)) == ("hfgi", {"decoder", "grid_align", "residue"})


def test_psp_and_e4e_are_not_guessed_apart() -> None:
    tree = outline("psp_gradual_r32")
    del tree["opts"]["encoder_type"]
    with pytest.raises(WeightsRefused, match=r"say which: encoder_type="):
        describe(tree)
    assert describe(tree, encoder_type="Encoder4Editing").method == "e4e"


def test_an_encoder_into_w_is_known_by_its_tensors() -> None:
    """The programs that trained them name another class in their options."""
    tree = outline("hyperstyle_w_encoder_r256")
    for said in (None, "Encoder4Editing"):
        tree["opts"]["encoder_type"] = said
        assert describe(tree).encoder_type == "WEncoder"


def test_a_mean_latent_may_be_an_array_but_not_anything() -> None:
    tree = outline("e4e_r32")
    what = describe(tree | {"latent_avg": np.ones((1, 512), dtype=np.float32)})
    assert what.latent_avg is not None
    assert tuple(what.latent_avg.shape) == (1, 512)
    with pytest.raises(WeightsRefused, match="latent_avg is a str, expected a tensor"):
        describe(tree | {"latent_avg": "mean.pt"})


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([1, 2], "holds a list, expected the dict of an encoder checkpoint"),
        ({}, "it holds nothing"),
        ({"g_ema": {}, "latent_avg": torch.zeros(512)}, "expected 'state_dict' with encoder"),
        (
            {"state_dict": {"decoder.input.input": torch.zeros(1)}},
            r"unknown kind: its state_dict has the parts \['decoder'\]",
        ),
        ({"state_dict": {"mapper.0.weight": torch.zeros(1)}}, r"has the parts \['mapper'\], known are encoder"),
        ({"state_dict": {"residue.x": torch.zeros(1)}}, "HFGI checkpoint without its grid_align"),
        (
            {
                "state_dict": {"encoder.styles.0.linear.weight": torch.zeros(1)},
                "opts": {"encoder_type": "FancyEncoder"},
            },
            "encoder type 'FancyEncoder' is not known; known are GradualStyleEncoder",
        ),
        (
            {"output_layer.3.weight": torch.zeros(1), "body.0.res_layer.0.weight": torch.zeros(1)},
            "ArcFace IR-SE-50 face network, not an encoder",
        ),
        (
            {"block0.conv.weight": torch.zeros(1), "block999.fc.weight": torch.zeros(1, 1)},
            "looks like an In-Domain encoder, but it does not go from",
        ),
        (
            {
                "state_dict": {"encoder.styles.900.linear.weight": torch.zeros(1)},
                "opts": {"encoder_type": "BackboneEncoder"},
            },
            "is for 901 rows of W",
        ),
    ],
)
def test_what_is_no_encoder_checkpoint(tree: Any, message: str) -> None:
    with pytest.raises(WeightsRefused, match=message):
        describe(tree)


@pytest.mark.parametrize("case", ["psp_gradual_r32", "restyle_e4e_resnet_r32", "psp_w_r32"])
def test_tensors_must_be_there_and_fit(case: str) -> None:
    tree = outline(case, "encoder.")
    tree["latent_avg"] = torch.zeros(512)
    state: dict[str, Tensor] = tree["state_dict"]
    name = next(key for key in state if key.endswith("linear.bias"))
    kept = state.pop(name)
    with pytest.raises(WeightsRefused, match=f"encoder is not whole or not of this kind: missing {name[8:]}"):
        open_encoder_checkpoint(tree)
    state[name] = kept[:100]
    with pytest.raises(WeightsRefused, match=rf"{name[8:]} has shape \(100,\), expected \(512,\)"):
        open_encoder_checkpoint(tree)
    state[name] = kept
    state["encoder.another.weight"] = kept
    with pytest.raises(WeightsRefused, match=r"unexpected another\.weight"):
        open_encoder_checkpoint(tree)


@pytest.mark.seconds
def test_mean_latents_of_every_shape() -> None:
    """The encoder's weights are zero, so what it gives is the mean latent."""
    tree = outline("psp_w_r32", "encoder.", "cpu")
    row, rows, images = torch.rand(512), torch.rand(18, 512), torch.rand(1, 3, 256, 256)
    for given, expected in ((row, row.expand(8, 512)), (row[None], row.expand(8, 512)), (rows, rows[:8])):
        checkpoint = open_encoder_checkpoint(tree | {"latent_avg": given})
        assert checkpoint.latent_avg is not None
        assert torch.equal(checkpoint.latent_avg, expected)
        assert checkpoint.latent_avg_source == "the file"
        assert checkpoint.encoder is not None
        assert torch.equal(checkpoint.encoder(images).w[0], expected)
    with pytest.raises(WeightsRefused, match=r"latent_avg has shape \(3, 512\)"):
        open_encoder_checkpoint(tree | {"latent_avg": rows[:3]})
    with pytest.raises(WeightsRefused, match="latent_avg holds values that are not finite"):
        open_encoder_checkpoint(tree | {"latent_avg": row * float("inf")})
    del tree["latent_avg"]
    with pytest.raises(WeightsRefused, match=r"has no latent_avg, .* and no decoder"):
        open_encoder_checkpoint(tree)
    unused = open_encoder_checkpoint(tree | {"opts": tree["opts"] | {"start_from_latent_avg": False}})
    assert unused.latent_avg is not None
    assert not unused.latent_avg.any()
    assert "start_from_latent_avg is false" in unused.latent_avg_source


@pytest.mark.seconds
def test_a_file_of_torch_save(tmp_path: Path) -> None:
    tree = outline("psp_w_r32", "encoder.", "cpu")
    tree["latent_avg"] = torch.rand(1, 512)
    tree["opts"] = argparse.Namespace(**tree["opts"])
    torch.save(tree, tmp_path / "w.pt")
    checkpoint = open_encoder_checkpoint(str(tmp_path / "w.pt"))
    assert (checkpoint.method, checkpoint.parts) == ("w", ("encoder",))
    assert checkpoint.opts["learn_in_w"] is True
    assert checkpoint.encoder is not None
    assert not any(p.requires_grad for p in checkpoint.encoder.parameters())
    assert not checkpoint.encoder.training


@pytest.fixture
def in_domain(made: Path) -> Path:
    return made / "encoders/idinvert_encoder_r64.pth"


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(0)
    g = Generator(GeneratorConfig(resolution=64, channels=(8,) * 5, z_dim=8, w_dim=64, mapping_layers=1))
    g.measure_w(100)
    return g.eval().requires_grad_(False)


@pytest.mark.seconds
def test_damaged_values_are_refused_with_file_and_name(in_domain: Path, tmp_path: Path) -> None:
    state = torch.load(in_domain, weights_only=True)
    state["block2.conv1.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(
        WeightsRefused, match=r"nan\.pth: encoder: block2\.conv1\.weight holds values that are not finite"
    ):
        open_encoder_checkpoint(str(tmp_path / "nan.pth"))
    del state["block2.conv1.weight"]
    torch.save(state, tmp_path / "less.pth")
    with pytest.raises(WeightsRefused, match=r"less\.pth: encoder .* missing block2\.conv1\.weight"):
        open_encoder_checkpoint(str(tmp_path / "less.pth"))
    (tmp_path / "cut.pth").write_bytes(in_domain.read_bytes()[:-2000])
    with pytest.raises(WeightsRefused, match=r"cut\.pth"):
        open_encoder_checkpoint(str(tmp_path / "cut.pth"))


@pytest.mark.seconds
def test_open_encoder_by_file_and_a_method_that_uses_it(in_domain: Path, generator: Generator) -> None:
    encoder = open_inverter(str(in_domain), generator=generator)
    assert isinstance(encoder, InDomainEncoder)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    method = load_method("e4e", generator, stages={0: {"encoder": str(in_domain)}}, distance="lpips-alex")
    stage = method.cfg.stages[0]
    result = stage(Target(images, ["a", "b"]), None, method.context)
    torch.testing.assert_close(result.code.w, encoder(images).w)
    assert method.context.inverter(str(in_domain)) is method.context.inverter(str(in_domain))


@pytest.mark.seconds
def test_an_encoder_is_not_used_on_another_generator(in_domain: Path, generator: Generator) -> None:
    with pytest.raises(GeneratorMismatch, match="gives latents of 10x64, generator 'tiny' of resolution 32 takes 8x16"):
        open_inverter(str(in_domain), generator=tiny_generator())
    checkpoint = dataclasses.replace(open_encoder_checkpoint(str(in_domain)), generator=generator)
    assert checkpoint.inverter(generator) is checkpoint.encoder
    torch.manual_seed(1)
    other = Generator(generator.cfg)
    with pytest.raises(GeneratorMismatch, match=r"mapping\.fc\.0\.weight of its decoder differs"):
        checkpoint.inverter(other)


@pytest.mark.parametrize("sees_rendering", [False, True])
def test_our_folder_holds_other_encoders_as_well(tmp_path: Path, sees_rendering: bool) -> None:
    g = tiny_generator()
    rows = PspConfig(resolution=32, num_ws=g.num_ws, w_dim=g.w_dim, sees_rendering=sees_rendering)
    encoder: Inverter = ReStyle(ReStyleConfig(encoder=rows, steps=2), g) if sees_rendering else Psp(rows, g)
    next(t for name, t in encoder.state_dict().items() if name.endswith("latent_avg")).copy_(g.w_mean)
    save_inverter(encoder, str(tmp_path / "psp"), generator=g)
    again = open_inverter(str(tmp_path / "psp"), generator=g)
    assert isinstance(again, ReStyle if sees_rendering else Psp)
    assert again.fingerprint == encoder.fingerprint
    assert torch.equal(again(torch.rand(1, 3, 32, 32)).w[0], g.w_mean.expand(g.num_ws, -1))
