"""Pickles of the TensorFlow era (``stylegan2-ffhq-config-f.pkl``): a tuple (G, D, Gs) of ``dnnlib.tflib`` networks.

TensorFlow stores convolutions as [height, width, in, out] and dense layers as [in, out]. Its upsampling convolution flips
the kernel at run time and its affine layers add 1 to the bias; here both are done once, when the file is read.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from ganinv.errors import WeightsRefused
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.discriminator import DiscriminatorConfig
from ganinv.generators.formats.parts import (
    Description,
    Leaf,
    Names,
    StateDict,
    TensorPart,
    check_square,
    load_leaf,
    resolution_of,
)
from ganinv.reading.stub import Stub, brief
from ganinv.reading.tensors import StoredArray

LAYOUT = "tensorflow"
HWIO = (3, 2, 0, 1)
IO = (1, 0)
_MAX_DEPTH = 4
# What the networks were made with, where it is not the default and changes what they compute.
_EXPECTED: dict[str, tuple[Any, ...]] = {
    "nonlinearity": ("lrelu",),
    "mapping_nonlinearity": ("lrelu",),
    "use_noise": (True,),
    "normalize_latents": (True,),
    "resample_kernel": ([1, 3, 3, 1],),
    "resample_filter": ([1, 3, 3, 1],),
    "demodulate": (True,),
    "use_wscale": (True,),
}


def is_network(node: Any) -> bool:
    return isinstance(node, Stub) and node.cls.startswith("dnnlib.tflib.network")


def state_of(network: Stub) -> StateDict:
    """The variables of a network and of its components, without the components' names: they do not clash."""
    tensors: dict[str, Leaf] = {}
    attributes: dict[str, Any] = {}

    def walk(node: Any, depth: int) -> None:
        if not is_network(node) or depth > _MAX_DEPTH:
            raise WeightsRefused("damaged: what should be a TensorFlow network is something else")
        held = node.attributes
        attributes.update(held.get("static_kwargs") or {})
        for pair in held.get("variables") or ():
            name, value = pair
            if isinstance(name, str) and isinstance(value, StoredArray | float | int):
                tensors[name] = value
        for component in (held.get("components") or {}).values():
            walk(component, depth + 1)

    walk(network, 0)
    return StateDict(tensors, {"": attributes}, str(network.attributes.get("build_func_name", "")))


def describe_generator(state: StateDict) -> Description:
    names = Names(state)
    if "4x4/Conv/mod_weight" not in names:
        raise WeightsRefused(
            f"a TensorFlow network made by {brief(state.cls)} that is not a StyleGAN2 "
            "(StyleGAN 1 and progressive GANs are not supported)"
        )
    if "LabelConcat/weight" in names:
        raise WeightsRefused("a conditional generator of the LabelConcat kind, which is not built here")
    made_with = _check_settings(state)
    levels = _levels(state)
    sizes = [4 * 2**b for b in range(levels)]
    c_dim = names.size(0, "LabelEmbed/weight") if "LabelEmbed/weight" in names else 0
    embed = names.size(1, "LabelEmbed/weight") if c_dim else 0
    fc = [int(m[1]) for n in state.tensors if (m := re.fullmatch(r"Dense(\d{1,3})/weight", n))]
    check_square(names, "4x4/Const/const", levels)
    architecture = "skip" if "4x4/ToRGB/weight" in names or levels == 1 else "orig"
    if any(n.endswith("/Skip/weight") for n in state.tensors):
        architecture = "resnet"
    last = f"{sizes[-1]}x{sizes[-1]}/ToRGB"
    cfg = GeneratorConfig(
        resolution=resolution_of(levels),
        channels=tuple(names.size(3, f"{s}x{s}/{'Conv' if s == 4 else 'Conv1'}/weight") for s in sizes),
        z_dim=names.size(0, "Dense0/weight") - embed,
        w_dim=names.size(0, "4x4/Conv/mod_weight"),
        c_dim=c_dim,
        img_channels=names.size(3, f"{last}/weight"),
        mapping_layers=max(fc, default=-1) + 1,
        mapping_lr_mul=float(made_with.get("mapping_lrmul", 0.01)),
        architecture=architecture,  # type: ignore[arg-type]
        num_fp16_res=int(made_with.get("num_fp16_res", 0)),
        conv_clamp=made_with.get("conv_clamp"),
    )
    parts = {"synthesis.const": names.part("4x4/Const/const")}
    if c_dim:
        parts |= _dense(names, "LabelEmbed", "mapping.embed")
    for i in range(cfg.mapping_layers):
        parts |= _dense(names, f"Dense{i}", f"mapping.fc.{i}")
    for b, size in enumerate(sizes):
        prefix = f"{size}x{size}"
        for k, layer in [(0, "Conv")] if b == 0 else [(2 * b - 1, "Conv0_up"), (2 * b, "Conv1")]:
            ours = f"synthesis.convs.{k}"
            parts |= _styled(names, f"{prefix}/{layer}", ours, flip=layer.endswith("_up"))
            parts[f"{ours}.noise_strength"] = names.part(f"{prefix}/{layer}/noise_strength")
            parts[f"{ours}.noise"] = names.part(f"noise{k}")
        if architecture == "skip" or b == levels - 1:
            parts |= _styled(names, f"{prefix}/ToRGB", f"synthesis.torgbs.{b}", flip=False)
        if architecture == "resnet" and b:
            parts[f"synthesis.skips.{b}.weight"] = _kernel(names, f"{prefix}/Skip/weight", flip=True)
    if "dlatent_avg" in names:
        parts["w_mean"] = names.part("dlatent_avg")
    names.finish(lambda name: name in ("lod", "pl_mean", "pl_mean_var"))
    return Description(LAYOUT, cfg, parts)


def describe_discriminator(state: StateDict) -> Description:
    names = Names(state)
    if "4x4/Dense0/weight" not in names or "Output/weight" not in names:
        raise WeightsRefused("the file's discriminator has no weights")
    made_with = _check_settings(state)
    levels = _levels(state)
    sizes = [4 * 2**b for b in reversed(range(levels))]
    top = f"{sizes[0]}x{sizes[0]}"
    if f"{top}/Skip/weight" in names:
        architecture = "resnet"
    else:
        architecture = "skip" if "4x4/FromRGB/weight" in names and levels > 1 else "orig"
    c_dim = names.size(0, "LabelEmbed/weight") if "LabelEmbed/weight" in names else 0
    fc = [int(m[1]) for n in state.tensors if (m := re.fullmatch(r"Mapping(\d{1,3})/weight", n))]
    width4 = names.size(3, "4x4/Conv/weight")
    cfg = DiscriminatorConfig(
        resolution=resolution_of(levels),
        channels=(
            *(names.size(3, f"{s}x{s}/Conv1_down/weight") for s in sizes[-2::-1]),
            names.size(3, f"{top}/FromRGB/weight"),
        ),
        img_channels=names.size(2, f"{top}/FromRGB/weight"),
        c_dim=c_dim,
        cmap_dim=names.size(1, "Output/weight") if c_dim else 0,
        mapping_layers=max(fc, default=-1) + 1,
        architecture=architecture,  # type: ignore[arg-type]
        group=made_with.get("mbstd_group_size", 4),
        std_channels=names.size(2, "4x4/Conv/weight") - width4,
        num_fp16_res=int(made_with.get("num_fp16_res", 0)),
        conv_clamp=made_with.get("conv_clamp"),
    )
    parts = _conv(names, f"{top}/FromRGB", "from_rgb")
    for i, size in enumerate(sizes[:-1]):
        prefix = f"{size}x{size}"
        parts |= _conv(names, f"{prefix}/Conv0", f"blocks.{i}.conv0")
        parts |= _conv(names, f"{prefix}/Conv1_down", f"blocks.{i}.conv1")
        if architecture == "resnet":
            parts[f"blocks.{i}.skip.weight"] = _kernel(names, f"{prefix}/Skip/weight")
        if architecture == "skip" and i:
            parts |= _conv(names, f"{prefix}/FromRGB", f"blocks.{i}.from_rgb")
    if architecture == "skip":
        parts |= _conv(names, "4x4/FromRGB", "last_rgb")
    parts |= _conv(names, "4x4/Conv", "conv")
    parts |= _dense(names, "4x4/Dense0", "fc") | _dense(names, "Output", "out")
    if c_dim:
        parts |= _dense(names, "LabelEmbed", "mapping.embed")
    for i in range(cfg.mapping_layers):
        parts |= _dense(names, f"Mapping{i}", f"mapping.fc.{i}")
    names.finish(lambda name: name == "lod")
    return Description(LAYOUT, cfg, parts)


def _levels(state: StateDict) -> int:
    found = {int(m[1]) for n in state.tensors if (m := re.match(r"(\d{1,5})x\1/", n))}
    return max(max(found, default=4), 4).bit_length() - 2


def _check_settings(state: StateDict) -> dict[str, Any]:
    made_with = dict(state.attributes.get("", {}))
    for key, allowed in _EXPECTED.items():
        if key in made_with and made_with[key] not in allowed:
            raise WeightsRefused(f"made with {key}={brief(made_with[key])}; only {allowed[0]} is built here")
    for key in ("mapping_lrmul", "conv_clamp", "num_fp16_res", "mbstd_group_size"):
        if type(made_with.get(key, 1)) not in (int, float, type(None)):
            raise WeightsRefused(f"made with {key}={brief(made_with[key])}, expected a number")
    return {key: value for key, value in made_with.items() if value is not None}


def _conv(names: Names, theirs: str, ours: str) -> dict[str, TensorPart]:
    return {f"{ours}.weight": _kernel(names, f"{theirs}/weight"), f"{ours}.bias": names.part(f"{theirs}/bias")}


def _dense(names: Names, theirs: str, ours: str) -> dict[str, TensorPart]:
    return {f"{ours}.weight": names.part(f"{theirs}/weight", axes=IO), f"{ours}.bias": names.part(f"{theirs}/bias")}


def _styled(names: Names, theirs: str, ours: str, flip: bool) -> dict[str, TensorPart]:
    return {
        f"{ours}.weight": _kernel(names, f"{theirs}/weight", flip),
        f"{ours}.bias": names.part(f"{theirs}/bias"),
        f"{ours}.affine.weight": names.part(f"{theirs}/mod_weight", axes=IO),
        f"{ours}.affine.bias": names.part(f"{theirs}/mod_bias", _add_one),
    }


def _kernel(names: Names, key: str, flip: bool = False) -> TensorPart:
    """A convolution's weight, read one tap at a time; ``flip`` turns it around in height and width."""
    part = names.part(key, axes=HWIO)
    if part.changed_shape is None:  # not four dimensions: it will not fit
        return part

    def fill(leaf: Leaf | None, own: Tensor) -> None:
        taps = _taps(leaf, key)
        height, width = own.shape[2:]
        for i, j in itertools.product(range(height), range(width)):
            own[:, :, i, j].copy_((taps(height - 1 - i, width - 1 - j) if flip else taps(i, j)).t())

    return replace(part, fill=fill)


def _taps(leaf: Leaf | None, key: str) -> Callable[[int, int], Tensor]:
    """[in, out] at a place of a kernel."""
    if isinstance(leaf, StoredArray) and not leaf.fortran:
        array = leaf
        return lambda i, j: load_leaf(array.at(i, j), key)
    whole = load_leaf(leaf, key)
    return lambda i, j: whole[i, j]


def _add_one(bias: Tensor) -> Tensor:
    return bias + 1.0
