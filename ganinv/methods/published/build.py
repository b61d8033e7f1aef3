"""Networks of a published checkpoint from its description: the right shape, its tensors taken over, frozen."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ganinv.errors import WeightsRefused
from ganinv.generators.formats import genforce, rosinality
from ganinv.generators.formats.build import build_generator
from ganinv.generators.formats.parts import StateDict
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.base import ImageEncoder
from ganinv.methods.e4e import E4e, E4eConfig
from ganinv.methods.in_domain import InDomainConfig, InDomainEncoder
from ganinv.methods.psp import Psp, PspConfig
from ganinv.methods.published.describe import ENCODER_TYPES
from ganinv.methods.published.description import EncoderDescription, Tensors, stored_mean
from ganinv.methods.published.kinds import kind_of
from ganinv.methods.w import NaiveWPlusConfig, NaiveWPlusEncoder, WEncoder, WEncoderConfig
from ganinv.networks import keymaps
from ganinv.networks.adopt import Rules, adopt_new, finite, loaded
from ganinv.networks.hypernet import HyperNetwork, Shape

M = TypeVar("M", bound=nn.Module)
W_DIM = 512  # of everything published but In-Domain inversion


def mean_latent(what: EncoderDescription, generator: Generator | None, where: str) -> tuple[Tensor | None, str]:
    """The mean latent [n_styles, w_dim] that offsets are added to, and where it comes from; None if none is needed."""
    if what.method == "in-domain" or not what.n_styles:
        return None, "none is used"
    if what.latent_avg is not None:
        given = finite(loaded(what.latent_avg), f"{where}: latent_avg")
        return _rows(given, what.n_styles, where), "the file"
    kind = kind_of(what.parts)
    if (kind is not None or what.method in ("psp", "e4e", "w", "naive-w+")) and what.opts.get(
        "start_from_latent_avg"
    ) is False:
        return torch.zeros(what.n_styles, W_DIM), "none is used (start_from_latent_avg is false)"
    if ("encoder" not in what.parts and kind is None) or (kind is not None and not kind.needs_mean):
        return None, "the file has none"
    if generator is None:
        raise WeightsRefused(
            f"{where} has no latent_avg, which its encoder's output is added to, and no decoder.* to compute it from: give the "
            "generator it belongs to"
        )
    if generator.w_dim != W_DIM:
        raise WeightsRefused(f"{where}: its generator has w_dim {generator.w_dim}, expected {W_DIM}")
    return generator.w_mean.expand(what.n_styles, -1), "the mean of its generator's W"


def _rows(latent_avg: Tensor, n_styles: int, where: str) -> Tensor:
    """[512], [1, 512] or [m, 512] with m of at least n_styles to [n_styles, 512]."""
    rows = latent_avg[None] if latent_avg.ndim == 1 else latent_avg
    if rows.ndim == 2 and rows.shape[1] == W_DIM and len(rows) == 1:
        return rows.expand(n_styles, -1)
    if rows.ndim == 2 and rows.shape[1] == W_DIM and len(rows) >= n_styles:
        return rows[:n_styles]
    raise WeightsRefused(
        f"{where}: latent_avg has shape {tuple(latent_avg.shape)}, expected [{W_DIM}], [1, {W_DIM}] or [{n_styles}, {W_DIM}]"
    )


def build_encoder(what: EncoderDescription, latent_avg: Tensor | None, where: str) -> ImageEncoder:
    """``encoder.*``."""
    tensors, where = what.parts["encoder"], f"{where}: encoder"
    if what.method == "in-domain":
        return _in_domain(what, tensors, where)
    assert what.encoder_type is not None
    assert latent_avg is not None
    kind = ENCODER_TYPES[what.encoder_type]
    shape = what.shape(latent_avg)
    tensors = {**tensors, "latent_avg": stored_mean(latent_avg)}
    if kind.family == "w":
        return adopt_new(lambda: WEncoder(WEncoderConfig(**shape)), tensors, keymaps.W_ENCODER, where)
    if kind.family == "naive-w+":
        return adopt_new(lambda: NaiveWPlusEncoder(NaiveWPlusConfig(**shape)), tensors, keymaps.NAIVE_W_PLUS, where)
    if what.sees_rendering:
        shape |= {"sees_rendering": True, "img_channels": what.input_channels // 2}
    shape |= {"backbone": kind.backbone, "pyramid": kind.pyramid, **_inputs(what)}
    rules = keymaps.IR_SE_50_ROWS if kind.backbone == "ir-se-50" else keymaps.RESNET_34_ROWS
    if kind.family == "psp":
        return adopt_new(lambda: Psp(PspConfig(**shape)), tensors, rules, where)
    return adopt_new(lambda: E4e(E4eConfig(**shape)), tensors, rules, where)


def _inputs(what: EncoderDescription) -> dict[str, Any]:
    """What pSp's encoders of image-to-image tasks read: label maps where the options have classes, sketches in one channel."""
    if what.opts.get("label_nc"):
        return {"reads": "labels", "classes": what.input_channels, "img_channels": 3}
    return {"reads": "sketch", "img_channels": 3} if what.input_channels == 1 else {}


def _in_domain(what: EncoderDescription, tensors: Tensors, where: str) -> ImageEncoder:
    levels = what.n_styles // 2
    rows, features = tensors[f"block{levels}.fc.weight"].shape
    cfg = InDomainConfig(
        resolution=what.input_size[0],
        w_dim=rows // what.n_styles,
        img_channels=what.input_channels,
        base_channels=tensors["block0.conv.weight"].shape[0],
        max_channels=features // 16,
        batch_norm="block0.bn.bn.weight" in tensors,
    )
    tensors = {**tensors, "latent_avg": torch.zeros(cfg.w_dim)}
    return adopt_new(lambda: InDomainEncoder(cfg), tensors, keymaps.in_domain(levels), where)


def build_hypernet(what: EncoderDescription, generator: Generator | None, where: str) -> HyperNetwork:
    """``hypernet.*``. ``generator``: the one whose weights it changes; its layers are counted in the order of use."""
    tensors, where = what.parts["hypernet"], f"{where}: hypernet"
    if generator is None:
        raise WeightsRefused(
            f"{where}: there is no decoder.* whose weights it changes; give the generator it belongs to"
        )
    names = generator.style_names
    indices = sorted({int(m[1]) for name in tensors if (m := re.match(r"refinement_blocks\.(\d{1,3})\.", name))})
    if indices and indices[-1] >= len(names):
        raise WeightsRefused(f"{where} changes layer {indices[-1]}, its generator has the layers 0 to {len(names) - 1}")
    layers = {names[i]: _shape(generator, names[i]) for i in indices}
    for i in indices:  # toRGB layers have their one convolution there
        if names[i].startswith("convs.") and any(n.startswith(f"refinement_blocks.{i}.output.0.") for n in tensors):
            raise WeightsRefused(
                f"{where}: layer {i} has a separable head (SharedWeightsHyperNetResNetSeparable), which is not built here; "
                "the published files have full ones"
            )
    # Every block that uses the shared head lists it again under its own name.
    aliases = [name for name in tensors if re.match(r"refinement_blocks\.\d+\.hypernet\.", name)]
    rules = keymaps.hyper_network(dict(zip(layers, indices, strict=True)))
    return adopt_new(lambda: HyperNetwork(layers, what.input_channels), tensors, rules, where, aliases)


def _shape(generator: Generator, layer: str) -> Shape:
    out_ch, in_ch, height, width = generator.synthesis.get_parameter(f"{layer}.weight").shape
    return out_ch, in_ch, height, width


def build_part(what: EncoderDescription, part: str, build: Callable[[], M], rules: Rules, where: str) -> M | None:
    """A part of one fixed shape, or None if the file lacks it."""
    if part not in what.parts:
        return None
    return adopt_new(build, what.parts[part], rules, f"{where}: {part}")


def build_decoder(what: EncoderDescription, where: str) -> Generator:
    """``decoder.*``: the generator."""
    tensors = what.parts["decoder"]
    size = sum(tensor.dtype.itemsize * math.prod(tensor.shape) for tensor in tensors.values())
    try:
        if genforce.GENERATOR_MARK in tensors:
            description = genforce.describe_generator(StateDict(tensors))
        else:
            description = rosinality.describe_generator(StateDict(tensors), what.latent_avg)
        generator = build_generator(description, size)
    except WeightsRefused as error:
        raise WeightsRefused(f"{where}: decoder: {error}") from error
    generator.measure_w_later(keep_mean="w_mean" in description.parts)
    return generator.eval().requires_grad_(False)
