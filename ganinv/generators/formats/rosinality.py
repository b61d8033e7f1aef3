"""The names of rosinality/stylegan2-pytorch, which most encoder projects share (pSp, e4e, ReStyle, HyperStyle, HFGI).

Widths are read off the weights. The learning-rate multiplier of the mapping network is 0.01 in every such file.
"""

from __future__ import annotations

import re

from torch import Tensor

from ganinv.generators.config import GeneratorConfig
from ganinv.generators.discriminator import DiscriminatorConfig
from ganinv.generators.formats.parts import (
    Description,
    Leaf,
    Names,
    StateDict,
    TensorPart,
    check_fir,
    check_square,
    resolution_of,
    shape_of,
)

LAYOUT = "rosinality"
GENERATOR_MARK = "input.input"
DISCRIMINATOR_MARK = "final_linear.1.weight"


def describe_generator(state: StateDict, latent_avg: Leaf | None = None) -> Description:
    """``latent_avg``: [dim], [1, dim] or [n, dim], from beside the state dict."""
    names = Names(state)
    levels = _count(state, r"convs\.(\d+)\.", r"to_rgbs\.(\d+)\.")
    check_square(names, GENERATOR_MARK, levels)
    layers = [i for n in state.tensors if (m := re.fullmatch(r"style\.(\d{1,3})\.weight", n)) and (i := int(m[1]))]
    cfg = GeneratorConfig(
        resolution=resolution_of(levels),
        channels=tuple(_width(names, b) for b in range(levels)),
        z_dim=names.size(1, "style.1.weight"),
        w_dim=names.size(1, "conv1.conv.modulation.weight", "to_rgb1.conv.modulation.weight"),
        img_channels=names.size(1, "to_rgb1.conv.weight", "to_rgb1.bias"),
        mapping_layers=max(layers, default=0),
    )
    parts = {
        ours: names.part(theirs)
        for ours, theirs in generator_keys(cfg).items()
        if theirs in names or not theirs.startswith("noises.")  # files of 2019 have no noise maps
    }
    if "latent_avg" in names:
        latent_avg = state.tensors["latent_avg"]
    if latent_avg is not None:
        shape = shape_of(latent_avg)
        rows = len(shape) > 1
        parts["w_mean"] = TensorPart("latent_avg", latent_avg, _one_row if rows else None, shape[-1:] if rows else None)
    check_fir(names, [n for n in state.tensors if n.endswith(".kernel")], total=4.0)
    names.finish(lambda name: name == "latent_avg")
    return Description(LAYOUT, cfg, parts)


def describe_discriminator(state: StateDict) -> Description:
    names = Names(state)
    levels = _count(state, r"convs\.(\d+)\.")
    channels = [names.size(0, "convs.0.0.weight", "convs.0.1.bias")]
    channels += [
        names.size(0, f"convs.{i + 1}.conv2.1.weight", f"convs.{i + 1}.conv2.2.bias") for i in range(levels - 1)
    ]
    cfg = DiscriminatorConfig(
        resolution=resolution_of(levels),
        channels=tuple(reversed(channels)),
        img_channels=names.size(1, "convs.0.0.weight"),
        std_channels=names.size(1, "final_conv.0.weight") - channels[-1],
    )
    parts = {ours: names.part(theirs) for ours, theirs in discriminator_keys(cfg).items()}
    check_fir(names, [n for n in state.tensors if n.endswith(".kernel")], total=1.0)
    names.finish(lambda name: False)
    return Description(LAYOUT, cfg, parts, {"assumed": {"group": 4}})


def generator_keys(cfg: GeneratorConfig) -> dict[str, str]:
    """Our names -> rosinality's, of everything but the average of W and the filters."""
    keys = {"synthesis.const": GENERATOR_MARK}
    for i in range(cfg.mapping_layers):
        keys |= {f"mapping.fc.{i}.{kind}": f"style.{i + 1}.{kind}" for kind in ("weight", "bias")}
    for k in range(cfg.num_convs):
        ours, theirs = f"synthesis.convs.{k}", "conv1" if k == 0 else f"convs.{k - 1}"
        keys |= {
            f"{ours}.weight": f"{theirs}.conv.weight",
            f"{ours}.bias": f"{theirs}.activate.bias",
            f"{ours}.noise_strength": f"{theirs}.noise.weight",
            f"{ours}.noise": f"noises.noise_{k}",
            f"{ours}.affine.weight": f"{theirs}.conv.modulation.weight",
            f"{ours}.affine.bias": f"{theirs}.conv.modulation.bias",
        }
    for b in range(len(cfg.channels)):
        ours, theirs = f"synthesis.torgbs.{b}", "to_rgb1" if b == 0 else f"to_rgbs.{b - 1}"
        keys |= {
            f"{ours}.weight": f"{theirs}.conv.weight",
            f"{ours}.bias": f"{theirs}.bias",
            f"{ours}.affine.weight": f"{theirs}.conv.modulation.weight",
            f"{ours}.affine.bias": f"{theirs}.conv.modulation.bias",
        }
    return keys


def discriminator_keys(cfg: DiscriminatorConfig) -> dict[str, str]:
    """Our names -> rosinality's, of everything but the filters."""
    keys = {"from_rgb.weight": "convs.0.0.weight", "from_rgb.bias": "convs.0.1.bias"}
    for i in range(len(cfg.channels) - 1):
        theirs = f"convs.{i + 1}"
        keys |= {
            f"blocks.{i}.conv0.weight": f"{theirs}.conv1.0.weight",
            f"blocks.{i}.conv0.bias": f"{theirs}.conv1.1.bias",
            f"blocks.{i}.conv1.weight": f"{theirs}.conv2.1.weight",
            f"blocks.{i}.conv1.bias": f"{theirs}.conv2.2.bias",
            f"blocks.{i}.skip.weight": f"{theirs}.skip.1.weight",
        }
    keys |= {"conv.weight": "final_conv.0.weight", "conv.bias": "final_conv.1.bias"}
    for i, layer in enumerate(("fc", "out")):
        keys |= {f"{layer}.{kind}": f"final_linear.{i}.{kind}" for kind in ("weight", "bias")}
    return keys


def _count(state: StateDict, *patterns: str) -> int:
    """Levels of resolution: convolutions come in pairs, the others one a level; a gap shows up as missing keys."""
    found = [
        [int(m[1]) for n in state.tensors if (m := re.match(pattern, n)) and len(m[1]) < 4] for pattern in patterns
    ]
    if len(patterns) == 1:
        return max(found[0], default=-1) + 1
    convs, others = (max(f, default=-1) + 1 for f in found)
    return max((convs + 1) // 2, others) + 1


def _width(names: Names, b: int) -> int:
    if b == 0:
        return names.size(1, "conv1.conv.weight", "input.input")
    return names.size(1, f"convs.{2 * b - 1}.conv.weight", f"convs.{2 * b - 2}.conv.weight")


def _one_row(latent_avg: Tensor) -> Tensor:
    """[n, dim] to [dim]: rows of a W average are equal; those of a W+ average are averaged."""
    rows = latent_avg.reshape(-1, latent_avg.shape[-1])
    return rows[0] if bool((rows == rows[0]).all()) else rows.mean(0)
