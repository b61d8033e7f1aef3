"""NVIDIA's names: stylegan2-ada-pytorch, and StyleGAN2 as written by the stylegan3 repository.

Pickles hold modules with their attributes, which say what the names cannot (learning-rate multiplier, clamps, float16
blocks); a bare state dict leaves them to ``config`` or to the defaults of stylegan2-ada.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ganinv.errors import WeightsRefused
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.discriminator import DiscriminatorConfig
from ganinv.generators.formats.parts import Description, Names, StateDict, check_fir, check_square, resolution_of
from ganinv.reading.stub import brief

LAYOUT = "nvidia"
GENERATOR_MARK = "synthesis.b4.const"
DISCRIMINATOR_MARK = "b4.out.weight"
AVERAGE = "mapping.w_avg"


def describe_generator(state: StateDict, config: Mapping[str, Any] | None = None) -> Description:
    """Args: config: of a state dict that ``save_generator`` wrote; else None."""
    names = Names(state)
    levels = _levels(state, r"synthesis\.b(\d+)\.")
    check_square(names, GENERATOR_MARK, levels)
    blocks = [f"synthesis.b{4 * 2**b}" for b in range(levels)]
    architecture = _architecture(names, blocks)
    c_dim = names.size(1, "mapping.embed.weight") if "mapping.embed.weight" in names else 0
    embed = names.size(0, "mapping.embed.weight") if c_dim else 0
    layers = [p for b in blocks for p in (f"{b}.conv0", f"{b}.conv1", f"{b}.torgb") if f"{p}.weight" in names]
    notes: dict[str, Any] = {}
    mapping_layers = _count(state, r"mapping\.fc(\d+)\.weight")
    settings = _settings(state, layers, blocks, "mapping.fc0", config, notes)
    cfg = GeneratorConfig(
        resolution=resolution_of(levels),
        channels=tuple(names.size(0, f"{b}.conv1.weight", f"{b}.conv1.bias") for b in blocks),
        z_dim=names.size(1, "mapping.fc0.weight") - embed if mapping_layers else embed,
        w_dim=names.size(1, "synthesis.b4.conv1.affine.weight"),
        c_dim=c_dim,
        img_channels=names.size(0, f"{blocks[-1]}.torgb.weight", f"{blocks[-1]}.torgb.bias"),
        mapping_layers=mapping_layers,
        architecture=architecture,
        **settings,
    )
    silent = {path for path in layers if state.attributes.get(path, {}).get("use_noise", True) is False}
    parts = {
        ours: names.part(theirs)
        for ours, theirs in generator_keys(cfg).items()
        if not ("noise" in theirs and theirs.rsplit(".", 1)[0] in silent)
    }
    if AVERAGE in names:
        parts["w_mean"] = names.part(AVERAGE)
    check_fir(names, [n for n in state.tensors if n.endswith("resample_filter")], total=1.0)
    _check_activations(state)
    names.finish(lambda name: name.endswith("num_batches_tracked"))
    return Description(LAYOUT, cfg, parts, notes)


def describe_discriminator(state: StateDict, config: Mapping[str, Any] | None = None) -> Description:
    names = Names(state)
    levels = _levels(state, r"b(\d+)\.")
    blocks = [f"b{4 * 2**b}" for b in reversed(range(levels))]
    first = blocks[0]
    if f"{first}.skip.weight" in names:
        architecture = "resnet"
    else:
        architecture = "skip" if "b4.fromrgb.weight" in names and levels > 1 else "orig"
    c_dim = names.size(1, "mapping.embed.weight") if "mapping.embed.weight" in names else 0
    notes: dict[str, Any] = {}
    layers = [
        p for b in blocks for p in (f"{b}.fromrgb", f"{b}.conv0", f"{b}.conv1", f"{b}.conv") if f"{p}.weight" in names
    ]
    settings = _settings(state, layers, blocks[::-1], "mapping.fc0", config, notes)
    width4 = names.size(0, "b4.conv.weight")
    cfg = DiscriminatorConfig(
        resolution=resolution_of(levels),
        channels=(
            *(names.size(0, f"{b}.conv1.weight") for b in reversed(blocks[:-1])),
            names.size(0, f"{first}.fromrgb.weight"),
        ),
        img_channels=names.size(1, f"{first}.fromrgb.weight"),
        c_dim=c_dim,
        cmap_dim=names.size(0, "b4.out.weight") if c_dim else 0,
        mapping_layers=_count(state, r"mapping\.fc(\d+)\.weight"),
        architecture=architecture,
        std_channels=names.size(1, "b4.conv.weight") - width4,
        **_group(state, config, notes),
        **settings,
    )
    parts = {ours: names.part(theirs) for ours, theirs in discriminator_keys(cfg).items()}
    check_fir(names, [n for n in state.tensors if n.endswith("resample_filter")], total=1.0)
    _check_activations(state)
    names.finish(lambda name: False)
    return Description(LAYOUT, cfg, parts, notes)


def generator_keys(cfg: GeneratorConfig) -> dict[str, str]:
    """Our names -> NVIDIA's, of everything but the average of W and the filters."""
    keys = {"synthesis.const": GENERATOR_MARK}
    for b in range(len(cfg.channels)):
        block = f"synthesis.b{4 * 2**b}"
        for k, layer in [(0, "conv1")] if b == 0 else [(2 * b - 1, "conv0"), (2 * b, "conv1")]:
            ours, theirs = f"synthesis.convs.{k}", f"{block}.{layer}"
            keys |= _weight_bias(ours, theirs) | _weight_bias(f"{ours}.affine", f"{theirs}.affine")
            keys |= {f"{ours}.noise_strength": f"{theirs}.noise_strength", f"{ours}.noise": f"{theirs}.noise_const"}
        if cfg.architecture == "skip" or b == len(cfg.channels) - 1:
            ours, theirs = f"synthesis.torgbs.{b}", f"{block}.torgb"
            keys |= _weight_bias(ours, theirs) | _weight_bias(f"{ours}.affine", f"{theirs}.affine")
        if cfg.architecture == "resnet" and b:
            keys[f"synthesis.skips.{b}.weight"] = f"{block}.skip.weight"
    return keys | _mapping_keys(cfg.mapping_layers, bool(cfg.c_dim))


def discriminator_keys(cfg: DiscriminatorConfig) -> dict[str, str]:
    """Our names -> NVIDIA's, of everything but the filters."""
    keys = _weight_bias("from_rgb", f"b{cfg.resolution}.fromrgb")
    for i in range(len(cfg.channels) - 1):
        ours, theirs = f"blocks.{i}", f"b{cfg.resolution // 2**i}"
        keys |= _weight_bias(f"{ours}.conv0", f"{theirs}.conv0") | _weight_bias(f"{ours}.conv1", f"{theirs}.conv1")
        if cfg.architecture == "resnet":
            keys[f"{ours}.skip.weight"] = f"{theirs}.skip.weight"
        if cfg.architecture == "skip" and i:
            keys |= _weight_bias(f"{ours}.from_rgb", f"{theirs}.fromrgb")
    if cfg.architecture == "skip":
        keys |= _weight_bias("last_rgb", "b4.fromrgb")
    for layer in ("conv", "fc", "out"):
        keys |= _weight_bias(layer, f"b4.{layer}")
    return keys | _mapping_keys(cfg.mapping_layers, bool(cfg.c_dim))


def _mapping_keys(layers: int, conditional: bool) -> dict[str, str]:
    keys = _weight_bias("mapping.embed", "mapping.embed") if conditional else {}
    for i in range(layers):
        keys |= _weight_bias(f"mapping.fc.{i}", f"mapping.fc{i}")
    return keys


def _weight_bias(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.{kind}": f"{theirs}.{kind}" for kind in ("weight", "bias")}


def _levels(state: StateDict, pattern: str) -> int:
    found = {int(m[1]) for n in state.tensors if (m := re.match(pattern, n))}
    for resolution in found:
        if resolution < 4 or resolution & (resolution - 1) or resolution > 2**20:
            raise WeightsRefused(f"a block of resolution {resolution}, expected powers of two from 4")
    return max(found).bit_length() - 2


def _count(state: StateDict, pattern: str) -> int:
    """One more than the highest index, so that a gap is reported as missing keys."""
    found = [int(m[1]) for n in state.tensors if (m := re.fullmatch(pattern, n)) and len(m[1]) < 4]
    return max(found, default=-1) + 1


def _architecture(names: Names, blocks: list[str]) -> Any:
    said = {names.state.attributes.get(b, {}).get("architecture") for b in blocks} - {None}
    if len(said) == 1:
        (one,) = said
        if one not in ("skip", "resnet", "orig"):
            raise WeightsRefused(f"architecture {brief(one)}; skip, resnet and orig are built here")
        return one
    if any(f"{b}.skip.weight" in names for b in blocks):
        return "resnet"
    return "skip" if len(blocks) == 1 or "synthesis.b4.torgb.weight" in names else "orig"


def _settings(
    state: StateDict,
    layers: list[str],
    blocks: list[str],
    first_dense: str,
    config: Mapping[str, Any] | None,
    notes: dict[str, Any],
) -> dict[str, Any]:
    """mapping_lr_mul, conv_clamp and num_fp16_res: from the modules' attributes, the config, or assumed."""
    if state.attributes:
        clamps = {_number(state.attributes.get(n, {}).get("conv_clamp")) for n in layers}
        if len(clamps) > 1:
            raise WeightsRefused(f"its layers have different clamps {sorted(clamps, key=str)}; one is expected")
        half = [bool(state.attributes.get(b, {}).get("use_fp16", False)) for b in blocks]
        count = sum(half)
        lr_mul = state.attributes.get(first_dense, {}).get("bias_gain", 0.01)
        if _number(lr_mul) is None:
            raise WeightsRefused(f"a learning-rate multiplier {brief(lr_mul)} of the mapping network")
        return {"mapping_lr_mul": float(lr_mul), "conv_clamp": clamps.pop() if clamps else None, "num_fp16_res": count}
    keys = ("mapping_lr_mul", "conv_clamp", "num_fp16_res")
    if config is not None:
        return {key: config[key] for key in keys if key in config}
    notes["assumed"] = {"mapping_lr_mul": 0.01, "conv_clamp": None, "num_fp16_res": 0}
    return {}


def _group(state: StateDict, config: Mapping[str, Any] | None, notes: dict[str, Any]) -> dict[str, Any]:
    std = state.attributes.get("b4.mbstd")
    if std is not None:
        group = std.get("group_size", 4)
        if group is not None and (type(group) is not int or group < 1):
            raise WeightsRefused(f"a minibatch group of {brief(group)}")
        return {"group": group}
    if config is not None and "group" in config:
        return {"group": config["group"]}
    notes.setdefault("assumed", {})["group"] = 4
    return {"group": 4}


def _number(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) else None


def _check_activations(state: StateDict) -> None:
    """The names do not show an activation other than leaky ReLU; the attributes do."""
    for path, attributes in state.attributes.items():
        kind = attributes.get("activation", "lrelu")
        if kind not in ("lrelu", "linear"):
            raise WeightsRefused(f"activation {brief(kind)} in {path[:60]}; only lrelu is built here")
