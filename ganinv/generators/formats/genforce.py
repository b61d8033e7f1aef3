"""The names of genforce/genforce and of its successor Hammer (PadInv's generator among others).

One set of names, two conventions. GenForce keeps ``truncation.w_avg``; it stores the affine biases without their 1 and the
upsampling kernels unflipped, as TensorFlow does. Hammer keeps ``w_avg`` and stores both as NVIDIA's PyTorch code does.
"""

from __future__ import annotations

import re

from torch import Tensor

from ganinv.errors import WeightsRefused
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.formats.parts import Description, Names, StateDict, check_fir, check_square, resolution_of

GENERATOR_MARK = "synthesis.early_layer.const"


def describe_generator(state: StateDict) -> Description:
    names = Names(state)
    genforce = "truncation.w_avg" in names
    if "mapping.label_weight" in names:
        raise WeightsRefused("a conditional GenForce generator of the LabelConcat kind, which is not built here")
    if "synthesis.layer0.wscale" in names or "synthesis.layer0.epilogue.style_mod.dense.fc.weight" in names:
        raise WeightsRefused("a StyleGAN (1) generator; StyleGAN2 is read here")
    found = [int(m[1]) for n in state.tensors if (m := re.match(r"synthesis\.layer(\d{1,3})\.", n))]
    levels = (max(found, default=0) + 1) // 2 + 1
    check_square(names, GENERATOR_MARK, levels)
    fc = [int(m[1]) for n in state.tensors if (m := re.fullmatch(r"mapping\.dense(\d{1,3})\.weight", n))]
    c_dim = names.size(1, "mapping.embedding.weight") if "mapping.embedding.weight" in names else 0
    embed = names.size(0, "mapping.embedding.weight") if c_dim else 0
    last = f"synthesis.output{levels - 1}"
    architecture = "skip" if "synthesis.output0.weight" in names or levels == 1 else "orig"
    if any(re.match(r"synthesis\.(residual|skip_layer)\d", n) for n in state.tensors):
        architecture = "resnet"
    cfg = GeneratorConfig(
        resolution=resolution_of(levels),
        channels=tuple(
            names.size(0, f"synthesis.layer{2 * b}.weight", f"synthesis.layer{2 * b}.bias") for b in range(levels)
        ),
        z_dim=names.size(1, "mapping.dense0.weight") - embed,
        w_dim=names.size(1, "synthesis.layer0.style.weight"),
        c_dim=c_dim,
        img_channels=names.size(0, f"{last}.weight", f"{last}.bias"),
        mapping_layers=max(fc, default=-1) + 1,
        architecture=architecture,  # type: ignore[arg-type]
    )
    parts = {"synthesis.const": names.part("synthesis.early_layer.const")}
    for i in range(cfg.mapping_layers):
        for kind in ("weight", "bias"):
            parts[f"mapping.fc.{i}.{kind}"] = names.part(f"mapping.dense{i}.{kind}")
    if c_dim:
        for kind in ("weight", "bias"):
            parts[f"mapping.embed.{kind}"] = names.part(f"mapping.embedding.{kind}")
    styled = [(f"synthesis.layer{k}", f"synthesis.convs.{k}", k) for k in range(cfg.num_convs)]
    styled += [
        (f"synthesis.output{b}", f"synthesis.torgbs.{b}", 0)
        for b in range(levels)
        if architecture == "skip" or b == levels - 1
    ]
    for theirs, ours, k in styled:
        parts |= {
            f"{ours}.weight": names.part(f"{theirs}.weight", _flip if genforce and k % 2 else None),
            f"{ours}.bias": names.part(f"{theirs}.bias"),
            f"{ours}.affine.weight": names.part(f"{theirs}.style.weight"),
            f"{ours}.affine.bias": names.part(f"{theirs}.style.bias", _add_one if genforce else None),
        }
        if ".convs." in ours:
            parts[f"{ours}.noise_strength"] = names.part(f"{theirs}.noise_strength")
            parts[f"{ours}.noise"] = names.part(f"{theirs}.noise")
    if architecture == "resnet":
        for b in range(1, levels):
            parts[f"synthesis.skips.{b}.weight"] = names.part(f"synthesis.residual{b}.weight")
    average = "truncation.w_avg" if genforce else "w_avg"
    if average in names:
        parts["w_mean"] = names.part(average)
    check_fir(
        names,
        [n for n in state.tensors if n.endswith((".filter", ".filter.kernel", ".upsample.kernel"))],
        total=4.0 if genforce else 1.0,
    )
    names.finish(lambda name: False)
    return Description("genforce" if genforce else "hammer", cfg, parts, {"assumed": {"mapping_lr_mul": 0.01}})


def _flip(weight: Tensor) -> Tensor:
    return weight.flip(2, 3)


def _add_one(bias: Tensor) -> Tensor:
    return bias + 1.0
