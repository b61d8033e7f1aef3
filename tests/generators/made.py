"""Weight files in the layouts of other programs, made here: for tests of what a file may look like, in every clone.

They have the names, structure and dialect of the recorded files (``GANINV_SHARED``); ``test_made.py`` compares the two where the
recordings are. What the networks compute is for the recordings themselves.
"""

from __future__ import annotations

import argparse
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor

from ganinv.generators.config import GeneratorConfig
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.formats.write import write_nvidia, write_rosinality
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.in_domain import InDomainConfig, InDomainEncoder
from ganinv.networks import keymaps
from ganinv.networks.adopt import published_name
from tests.closed_form import closed_form_tensor, fill
from tests.generators.originals import Persistent, pickled
from tests.generators.test_formats_other import tensorflow_network, tensorflow_variables, their_names
from tests.reading.pickles import call, repacked, streamed, zipped


def generator_files(folder: Path) -> list[Path]:
    """The files of ``make_files`` that hold a StyleGAN2."""
    files = [*folder.glob("nvidia/*"), *folder.glob("rosinality/*")]
    return sorted(file for file in files if not file.name.startswith("sg3t"))


class Shape(NamedTuple):
    """Of a generator that some of the files hold, and of its discriminator where it is not the usual one of its project."""

    generator: Mapping[str, Any]
    architecture: Literal["resnet", "orig"] = "resnet"
    group: int = 2


def _shape(width: int, levels: int, z: int, layers: int, **more: Any) -> dict[str, Any]:
    size = 2 ** (levels + 1)
    channels = tuple(width if 4 * 2**k < 64 else width // 2 for k in range(levels))
    return {"resolution": size, "channels": channels, "z_dim": z, "w_dim": z, "mapping_layers": layers, **more}


HALF = {"num_fp16_res": 3, "conv_clamp": 256.0}
NVIDIA = {
    "ada_r32_uncond": Shape(_shape(32, 4, 64, 8)),
    "ada_r64_cond3_fp16": Shape(_shape(32, 5, 64, 8, c_dim=3, num_fp16_res=4, conv_clamp=256.0)),
    "ada_r32_w512_map2": Shape(_shape(32, 4, 512, 2, **HALF)),
    "ada_r32_cifar_like": Shape(_shape(32, 4, 64, 2, c_dim=10), "orig"),
    "pti_tuned_r32": Shape(_shape(32, 4, 64, 8)),
}
"""Pickles by NVIDIA's programs, and by PTI's."""

ROSINALITY = {
    "ros_r32_narrow": _shape(32, 4, 64, 8, channels=(32, 32, 32, 24)),
    "ros_r64_narrow": _shape(32, 5, 64, 8, channels=(32, 32, 32, 24, 16)),
    "ros_r32_train_ckpt": _shape(24, 4, 48, 4, channels=(24, 24, 16, 16)),
    "ros_r32_style512_oldzip": _shape(16, 4, 512, 2, channels=(16, 16, 16, 16)),
}


def make_files(folder: Path) -> None:
    """Every file, under the name that its recording has in shared/golden."""
    for name in ("nvidia", "rosinality", "encoders", "bad"):
        (folder / name).mkdir(parents=True)
    for name, shape in NVIDIA.items():
        nvidia, seed = folder / "nvidia", len(name)
        if name == "pti_tuned_r32":
            (nvidia / f"{name}.pt").write_bytes(
                pickled(persistent(generator(shape, seed)), write=lambda tree, _: zipped(tree))
            )
        else:
            (nvidia / f"{name}.pkl").write_bytes(pickled(training_pickle(shape, seed), protocol=3))
    (folder / "nvidia/sg3t_r32.pkl").write_bytes(pickled(stylegan3(), protocol=4))
    (folder / "nvidia/tf_legacy_r32.pkl").write_bytes(tensorflow_pickle())
    for name, cfg in ROSINALITY.items():
        data = rosinality(cfg, name)
        (folder / f"rosinality/{name}.pt").write_bytes(streamed(data) if "oldzip" in name else zipped(data))
    (folder / "encoders/idinvert_encoder_r64.pth").write_bytes(zipped(in_domain()))
    narrow = rosinality(ROSINALITY["ros_r32_narrow"], "ros_r32_narrow")
    for name, content in bad_files(narrow).items():
        (folder / "bad" / name).write_bytes(content)


def generator(shape: Shape, seed: int) -> Generator:
    torch.manual_seed(seed)
    g = Generator(GeneratorConfig(**shape.generator))
    d: dict[str, Any] = {"c_dim": g.c_dim, "cmap_dim": 32, "mapping_layers": 8} if g.c_dim else {}
    clamps = {"num_fp16_res": g.cfg.num_fp16_res, "conv_clamp": g.cfg.conv_clamp}
    d |= {"group": shape.group, "architecture": shape.architecture}
    g.discriminator = Discriminator(g.resolution, g.cfg.channels, **d, **clamps)
    fill(g, "made", str(seed))
    g.w_mean.copy_(closed_form_tensor("made", f"{seed}.w_mean", list(g.w_mean.shape), 0.0, 0.3))
    return g.eval().requires_grad_(False)


# NVIDIA's programs pickle whole modules.


def training_pickle(shape: Shape, seed: int) -> dict[str, Any]:
    """What the training loop leaves; G has other weights than G_ema, on purpose."""
    averaged = generator(shape, seed)
    assert averaged.discriminator is not None
    return {
        "G": persistent(generator(shape, seed + 100)),
        "D": persistent(averaged.discriminator, averaged),
        "G_ema": persistent(averaged),
        "training_set_kwargs": {"path": "./datasets/toy.zip", "resolution": averaged.resolution},
        "augment_pipe": None,
    }


def persistent(network: Generator | Discriminator, generator: Generator | None = None, source: str = "") -> Persistent:
    """A network as NVIDIA's persistent modules.

    Args:
        generator: whose discriminator it is. source: stands where those files have the source of their classes.
    """
    held = torch.load(io.BytesIO(write_nvidia(generator or network, False, {})), weights_only=True)  # type: ignore[arg-type]
    tensors = held["G_ema" if generator is None else "D"]
    root = _module(source)
    if generator is not None:
        _below(root, "b4.mbstd", source)["group_size"] = network.cfg.group  # type: ignore[union-attr]
    for name, tensor in tensors.items():
        path, _, last = name.rpartition(".")
        kind = "_buffers" if last in ("w_avg", "resample_filter", "noise_const") else "_parameters"
        _below(root, path, source)[kind][last] = tensor
    for path in {name.rpartition(".")[0] for name in tensors}:
        _below(root, path, source).update(_attributes(path, network.cfg))
    return root


def _attributes(path: str, cfg: Any) -> dict[str, Any]:
    """What a module says beside its tensors."""
    layer = path.rpartition(".")[2]
    clamp = {"conv_clamp": cfg.conv_clamp}
    if layer.startswith("b") and layer[1:].isdigit():
        half = int(layer[1:]).bit_length() > cfg.resolution.bit_length() - cfg.num_fp16_res
        return {"architecture": cfg.architecture, "use_fp16": half}
    if layer.startswith("fc"):
        return {"activation": "lrelu", "bias_gain": cfg.mapping_lr_mul if "mapping" in path else 1}
    if layer in ("affine", "embed", "out"):
        return {"activation": "linear", "bias_gain": 1}
    if layer in ("conv0", "conv1") and path.startswith("synthesis"):
        return {"activation": "lrelu", "use_noise": True, **clamp}
    if layer in ("conv0", "conv1", "conv", "fromrgb"):
        return {"activation": "lrelu", **clamp}
    return {"torgb": clamp, "skip": {"activation": "linear"}}.get(layer, {})


def _module(source: str) -> Persistent:
    state: dict[str, Any] = {"training": False, "_parameters": {}, "_buffers": {}, "_modules": {}}
    return Persistent({"type": "class", "version": 6, "module_src": source, "class_name": "Module", "state": state})


def _below(root: Persistent, path: str, source: str) -> dict[str, Any]:
    """The state of a submodule, which is made where it is not there."""
    for name in path.split(".") if path else ():
        root = root.meta["state"]["_modules"].setdefault(name, _module(source))
    state: dict[str, Any] = root.meta["state"]
    return state


def stylegan3() -> dict[str, Any]:
    """Names by which StyleGAN3 is known, and a discriminator, which is StyleGAN2's."""
    root = _module("")
    _below(root, "synthesis.input", "")["_buffers"]["freqs"] = torch.zeros(4, 2)
    _below(root, "synthesis.L0_36_32", "")["_parameters"]["weight"] = torch.zeros(4, 4, 3, 3)
    g = generator(NVIDIA["ada_r32_uncond"], 3)
    assert g.discriminator is not None
    return {"G": root, "D": persistent(g.discriminator, g), "G_ema": root, "augment_pipe": None}


def tensorflow_pickle() -> bytes:
    """``(G, D, Gs)`` of the TensorFlow programs, whose discriminator has no weights."""
    cfg = _shape(24, 4, 48, 3)
    with their_names():
        raw, averaged = (
            tensorflow_network("G_main", tensorflow_variables(generator(Shape(cfg), seed))) for seed in (0, 1)
        )
        return pickle.dumps((raw, tensorflow_network("D_main", {}), averaged), 3)


def rosinality(cfg: Mapping[str, Any], name: str) -> dict[str, Any]:
    g = generator(Shape(cfg, group=4), len(name))
    data = torch.load(io.BytesIO(write_rosinality(g, False, {})), weights_only=True)
    if "train" not in name:
        return {"g_ema": data["g_ema"], "latent_avg": data["latent_avg"]}
    raw = torch.load(io.BytesIO(write_rosinality(generator(Shape(cfg, group=4), 7), False, {})), weights_only=True)[
        "g_ema"
    ]
    optimiser = {"state": {}, "param_groups": [{"lr": 0.002, "betas": (0.0, 0.99)}]}
    more = {"g_optim": optimiser, "d_optim": optimiser, "args": argparse.Namespace(size=32, lr=0.002), "ada_aug_p": 0.0}
    return {"g": raw, "d": data["d"], "g_ema": data["g_ema"], **more}


def in_domain() -> dict[str, Tensor]:
    torch.manual_seed(0)
    encoder = InDomainEncoder(
        InDomainConfig(resolution=64, w_dim=64, base_channels=12, max_channels=48, batch_norm=False)
    )
    state = {published_name(name, keymaps.in_domain(5)): t for name, t in encoder.state_dict().items()}
    return {name: tensor for name, tensor in state.items() if name != "latent_avg"}


def bad_files(narrow: dict[str, Any]) -> dict[str, bytes]:
    """Files that no program should have written, and some that were damaged on their way."""
    state = narrow["g_ema"]
    nan = {name: tensor.clone() for name, tensor in state.items()}
    nan["convs.1.conv.weight"].view(-1)[7] = float("nan")
    whole = {name: tensor.contiguous() for name, tensor in state.items()}
    gone = ("convs.2.conv.modulation.bias", "to_rgbs.1.")
    shape = NVIDIA["ada_r32_uncond"]
    acting = training_pickle(shape, 14) | {"G_ema": persistent(generator(shape, 14), source="open('PWNED', 'w')\n")}
    return {
        "touch_open.pkl": call("io", "open", "PWNED", "w"),
        "touch_os_system.pkl": call("posix", "system", "touch PWNED"),
        "touch_in_zip.pt": repacked(zipped(narrow), {"data.pkl": call("io", "open", "PWNED", "w")}),
        "arbitrary_class.pt": repacked(zipped(narrow), {"data.pkl": call("somebody.models.weird", "OddThing", 1)}),
        "truncated.pkl": pickle.dumps({"G_ema": torch.ones(500)}, 4)[:-300],
        "truncated.pt": zipped(narrow)[:-3000],
        "zero_bytes.pkl": b"",
        "zero_bytes.pt": b"",
        "quota_page.pkl": b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head></html>",
        "nan_weights.pt": zipped({"g_ema": nan, "latent_avg": narrow["latent_avg"]}),
        "missing_keys.safetensors": save({name: t for name, t in whole.items() if not name.startswith(gone)}),
        "complete.safetensors": save({**whole, "latent_avg": narrow["latent_avg"]}),
        "embedded_source_acts.pkl": pickled(acting, protocol=3),
    }
