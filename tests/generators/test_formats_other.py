"""GenForce and Hammer state dicts, TensorFlow pickles, and networks that are not StyleGAN2."""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.errors import WeightsRefused
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.files import open_generator, save_generator
from ganinv.generators.formats.nvidia import discriminator_keys, generator_keys
from ganinv.generators.stylegan2 import Generator, GeneratorConfig
from tests.generators.originals import close, golden
from tests.reading.pickles import written, zipped
from tests.tiny import random_w, tiny_generator


def genforce_state(g: Generator, hammer: bool) -> dict[str, Tensor]:
    """What the two projects would store for ``g`` (GenForce as its own code reads it)."""
    own = g.state_dict()
    out = {
        "synthesis.early_layer.const": own["synthesis.const"][None],
        "w_avg" if hammer else "truncation.w_avg": g.w_mean,
    }
    for i in range(g.cfg.mapping_layers):
        for kind in ("weight", "bias"):
            out[f"mapping.dense{i}.{kind}"] = own[f"mapping.fc.{i}.{kind}"]
    for name in g.style_names:
        kind, index = name.split(".")
        theirs = f"synthesis.{'layer' if kind == 'convs' else 'output'}{index}"
        weight, bias = own[f"synthesis.{name}.weight"], own[f"synthesis.{name}.affine.bias"]
        up = kind == "convs" and int(index) % 2 == 1
        out[f"{theirs}.weight"] = weight if hammer or not up else weight.flip(2, 3)
        out[f"{theirs}.bias"] = own[f"synthesis.{name}.bias"]
        out[f"{theirs}.style.weight"] = own[f"synthesis.{name}.affine.weight"]
        out[f"{theirs}.style.bias"] = bias if hammer else bias - 1
        if kind == "convs":
            out[f"{theirs}.noise_strength"] = own[f"synthesis.{name}.noise_strength"]
            out[f"{theirs}.noise"] = own[f"synthesis.{name}.noise"][None, None]
            if up:
                taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
                kernel = torch.outer(taps, taps)
                out[f"{theirs}.filter" + ("" if hammer else ".kernel")] = kernel if hammer else kernel[None, None] * 4
    return out


@pytest.mark.parametrize("hammer", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_genforce_and_hammer(tmp_path: Path, hammer: bool, wrapped: bool) -> None:
    g = tiny_generator()
    state: Any = genforce_state(g, hammer)
    if wrapped:
        state = {"generator_smooth": state, "generator": genforce_state(tiny_generator(seed=3), hammer)}
        state["discriminator"] = {"input0.weight": torch.zeros(2)}
        state = {"models": state} if hammer else state
    opened = open_generator(written(tmp_path / "g", zipped(state)))
    assert opened.provenance is not None
    assert opened.provenance.layout == ("hammer" if hammer else "genforce")
    assert ("names that are not known here" in opened.provenance.no_discriminator) == wrapped
    w = random_w(g, 2)
    torch.testing.assert_close(opened.synthesize(Code(w=w)), g.synthesize(Code(w=w)), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(opened.w_mean, g.w_mean)
    z = torch.randn(2, 16)
    torch.testing.assert_close(opened.map(z), g.map(z))


def test_genforce_stores_upsampling_kernels_unflipped_and_styles_without_their_one(tmp_path: Path) -> None:
    """Their upsampling layer as their code computes it: flip, transposed convolution, filter; style plus 1."""
    state = genforce_state(tiny_generator(), hammer=False)
    g = open_generator(written(tmp_path / "g", zipped(state)))
    w = random_w(g, 1)
    _, features = g.synthesize(Code(w=w), capture=["block[0]", "act[1]"], noise="none")
    layer = {k.removeprefix("synthesis.layer1."): v for k, v in state.items() if k.startswith("synthesis.layer1.")}
    style = w[:, 1] @ layer["style.weight"].t() / 4 + layer["style.bias"] + 1
    weight = layer["weight"] / (16 * 9) ** 0.5 * style[0][None, :, None, None]
    weight = weight * (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).rsqrt()
    y = F.conv_transpose2d(features["block[0]"], weight.flip(2, 3).transpose(0, 1), stride=2)
    y = F.conv2d(F.pad(y, (1, 1, 1, 1)).transpose(0, 1), layer["filter.kernel"]).transpose(0, 1)
    y = F.leaky_relu(y + layer["bias"][:, None, None], 0.2) * 2**0.5
    torch.testing.assert_close(features["act[1]"], y, atol=1e-4, rtol=1e-4)


# TensorFlow


def test_tensorflow_equals_the_converted_original(shared: Path) -> None:
    g = open_generator(str(shared / "golden/nvidia/tf_legacy_r32.pkl"))
    want = golden(shared / "golden/nvidia/tf_legacy_r32.npz")
    close(g.map(want["z"]), want["ws"])
    close(g.map(want["z"], truncation_psi=0.7), want["ws_psi0.7"])
    close(g.synthesize(Code(w=want["ws"])), want["img_const"])
    close(g.synthesize(Code(w=want["ws"]), noise="none"), want["img_none"])
    close(g.synthesize(Code(w=want["ws_psi0.7"])), want["img_const_psi0.7"])
    assert g.provenance is not None
    assert (g.provenance.layout, g.provenance.network) == ("tensorflow", "G_ema")
    assert g.provenance.no_discriminator == "the file's discriminator has no weights"
    other = open_generator(str(shared / "golden/nvidia/tf_legacy_r32.pkl"), network="G")
    assert other.fingerprint != g.fingerprint


class Network:
    """Pickles as ``dnnlib.tflib.network.Network``."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state


def tensorflow_network(func: str, variables: dict[str, Any], **static_kwargs: Any) -> Network:
    held = {"version": 5, "static_kwargs": static_kwargs, "components": {}, "build_func_name": func}
    return Network({**held, "variables": list(variables.items())})


@contextmanager
def their_names() -> Iterator[None]:
    modules = {name: types.ModuleType(name) for name in ("dnnlib", "dnnlib.tflib", "dnnlib.tflib.network")}
    modules["dnnlib.tflib.network"].Network = Network  # type: ignore[attr-defined]
    Network.__module__, Network.__qualname__ = "dnnlib.tflib.network", "Network"
    sys.modules |= modules
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


def tensorflow_variables(g: Generator) -> dict[str, Any]:
    own, out = g.state_dict(), {}
    for ours, theirs in generator_keys(g.cfg).items():
        path = theirs.split(".")
        array = own[ours].numpy()
        if path[0] == "mapping":
            out[f"Dense{path[1][2:]}/{path[2]}"] = array.T if path[2] == "weight" else array
            continue
        size = int(path[1][1:])
        layer = {"conv0": "Conv0_up", "conv1": "Conv" if size == 4 else "Conv1", "torgb": "ToRGB", "const": "Const"}[
            path[2]
        ]
        prefix, kind = f"{size}x{size}/{layer}", path[-1]
        if kind == "const":
            out[f"{prefix}/const"] = array[None]
        elif path[-2] == "affine":
            out[f"{prefix}/mod_{kind}"] = array.T if kind == "weight" else array - 1
        elif kind == "weight":
            out[f"{prefix}/weight"] = (array[:, :, ::-1, ::-1] if layer == "Conv0_up" else array).transpose(2, 3, 1, 0)
        elif kind == "noise_const":
            out[f"noise{ours.split('.')[2]}"] = array[None, None]
        else:
            out[f"{prefix}/{kind}"] = array
    return out | {"dlatent_avg": g.w_mean.numpy(), "lod": np.float32(0)}


def tensorflow_discriminator(d: Discriminator) -> dict[str, Any]:
    own, out = d.state_dict(), {}
    for ours, theirs in discriminator_keys(d.cfg).items():
        block, layer, kind = theirs.split(".")
        array = own[ours].numpy()
        if block == "mapping":
            name = "LabelEmbed" if layer == "embed" else f"Mapping{layer[2:]}"
        else:
            words = {
                "fromrgb": "FromRGB",
                "conv0": "Conv0",
                "conv1": "Conv1_down",
                "skip": "Skip",
                "conv": "Conv",
                "fc": "Dense0",
            }
            size = block[1:]
            name = "Output" if layer == "out" else f"{size}x{size}/{words[layer]}"
        if kind == "weight":
            array = array.T if array.ndim == 2 else array.transpose(2, 3, 1, 0)
        out[f"{name}/{kind}"] = np.ascontiguousarray(array)
    return out


@pytest.mark.parametrize("architecture", ["resnet", "skip", "orig"])
@pytest.mark.parametrize("c_dim", [0, 3])
def test_tensorflow_discriminators(tmp_path: Path, architecture: Any, c_dim: int) -> None:
    g = tiny_generator()
    d = Discriminator(32, g.cfg.channels, group=2, architecture=architecture, c_dim=c_dim, mapping_layers=2)
    with their_names():
        nets = [tensorflow_network("G_main", tensorflow_variables(x)) for x in (tiny_generator(seed=2), g)]
        disc = tensorflow_network("D_main", tensorflow_discriminator(d), mbstd_group_size=2, architecture=architecture)
        data = pickle.dumps((nets[0], disc, nets[1]), 3)
    opened = open_generator(written(tmp_path / "g.pkl", data))
    assert opened.fingerprint == g.fingerprint
    assert opened.discriminator is not None
    images, c = torch.randn(4, 3, 32, 32), torch.eye(3)[[0, 1, 2, 0]] if c_dim else None
    torch.testing.assert_close(opened.discriminator(images, c), d(images, c))


@pytest.mark.parametrize(
    ("variables", "kwargs", "message"),
    [
        ({"4x4/Const/StyleMod/weight": np.zeros((2, 2), np.float32)}, {}, "made by 'G_main' that is not a StyleGAN2"),
        (None, {"nonlinearity": "relu"}, "made with nonlinearity='relu'"),
        (None, {"resample_kernel": [1, 2, 1]}, "made with resample_kernel=a list"),
        ({"8x8/Conv1/weight": None}, {}, r"8x8/Conv1/weight"),
    ],
)
def test_tensorflow_refusals(tmp_path: Path, variables: Any, kwargs: dict[str, Any], message: str) -> None:
    held = tensorflow_variables(tiny_generator())
    if variables is not None:
        held = variables if "4x4/Const/StyleMod/weight" in variables else held | variables
    with their_names():
        data = pickle.dumps(
            (tensorflow_network("G_main", {k: v for k, v in held.items() if v is not None}, **kwargs),) * 3
        )
    with pytest.raises(WeightsRefused, match=message):
        open_generator(written(tmp_path / "g.pkl", data))


@pytest.mark.parametrize(
    "change", [{"variables": [("4x4/Conv/mod_weight",)]}, {"static_kwargs": 5}, {"components": [1]}]
)
def test_a_network_that_cannot_be_built_is_called_damaged(tmp_path: Path, change: dict[str, Any]) -> None:
    network = tensorflow_network("G_main", tensorflow_variables(tiny_generator()))
    network.__dict__.update(change)
    with their_names():
        data = pickle.dumps((network,) * 3)
    with pytest.raises(WeightsRefused, match="damaged, its networks cannot be built"):
        open_generator(written(tmp_path / "g.pkl", data))


# What is not a StyleGAN2


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"g_ema": {"progression.0.conv1.weight": torch.zeros(2)}}, r"this is StyleGAN \(1\)"),
        ({"encoder.body.0.weight": torch.zeros(2)}, "this is an encoder"),
        ({"state": {0: {"exp_avg": torch.zeros(2)}}}, "this is an optimiser's state|its tensors are named"),
        ({"epoch": 3}, r"no network in it: its entries are \[\"'epoch'\"\]"),
        ([1, 2], "no network in it: it holds a list"),
        (torch.nn.Linear(2, 2), "its tensors are named .*class Linear"),
        ({"G_ema": {"backbone.synthesis.b4.const": torch.zeros(2)}}, "tri-plane"),
    ],
)
def test_other_files_are_refused_in_words(tmp_path: Path, tree: Any, message: str) -> None:
    with pytest.raises(WeightsRefused, match=message):
        open_generator(written(tmp_path / "g.pt", zipped(tree)))


def test_the_weights_of_our_folder_alone_point_to_the_folder(tmp_path: Path) -> None:
    save_generator(tiny_generator(), str(tmp_path / "g"))
    with pytest.raises(WeightsRefused, match="open the folder they lie in"):
        open_generator(str(tmp_path / "g/generator.safetensors"))
    with pytest.raises(WeightsRefused, match="its tensors are named"):
        open_generator(written(tmp_path / "x", save({"a": torch.zeros(2)})))


def test_a_network_that_is_not_there(tmp_path: Path) -> None:
    file = written(tmp_path / "g.pt", zipped({"generator": genforce_state(tiny_generator(), True)}))
    assert open_generator(file).provenance.network == "G"  # type: ignore[union-attr]
    with pytest.raises(WeightsRefused, match=r"no network G_ema; it has \['G'\]"):
        open_generator(file, network="G_ema")
    with pytest.raises(WeightsRefused, match="has no discriminator"):
        open_generator(file, network="D")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"synthesis.layer0.weight": torch.zeros(70000, 1, 3, 3)}, "is not a StyleGAN2"),
        ({"synthesis.layer0.weight": torch.zeros(60000, 1, 3, 3)}, "out of proportion"),
        ({"synthesis.layer0.style.weight": torch.zeros(1, 60000), "synthesis.layer2.weight": torch.zeros(60000, 1, 1, 1)},
         "out of proportion"),
        ({"mapping.embedding.weight": torch.zeros(1, 70000)}, "70000 classes .* is not a StyleGAN2"),
        ({f"mapping.dense{i}.weight": torch.zeros(8, 8) for i in range(150)}, "150 mapping layers is not a StyleGAN2"),
    ],
)  # fmt: skip
def test_sizes_out_of_proportion(tmp_path: Path, change: dict[str, Tensor], message: str) -> None:
    """A few tensors that together would make a network of gigabytes; refused before memory is asked for."""
    g = Generator(GeneratorConfig(resolution=8, channels=(4, 4), z_dim=8, w_dim=8, mapping_layers=1))
    blanks = {
        k: torch.zeros(8) for name in change for k in (name.replace("weight", "bias"),) if "embed" in k or "dense" in k
    }
    with pytest.raises(WeightsRefused, match=message):
        open_generator(written(tmp_path / "g.pt", zipped(genforce_state(g, True) | blanks | change)))
