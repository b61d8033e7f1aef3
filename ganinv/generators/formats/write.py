"""Our networks under the names of other projects, so that their own code loads them with ``load_state_dict``."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor

from ganinv.errors import ConfigError
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.formats import nvidia, rosinality
from ganinv.generators.formats.parts import FIR_TAPS
from ganinv.generators.stylegan2 import Generator


def write_rosinality(generator: Generator, half: bool, extra: dict[str, Any]) -> bytes:
    """``{"g_ema": state dict, "latent_avg": [dim], "d": state dict}`` as rosinality's code and its descendants read it.

    The layout has no place for clamps and float16 blocks; they are kept under ``ganinv``, which those programs ignore.

    Raises:
        ConfigError: a generator that the layout cannot hold (conditional, not skip, another learning-rate multiplier).
    """
    cfg = generator.cfg
    _refuse("rosinality", {
        "it is conditional": cfg.c_dim > 0,
        f"its architecture is {cfg.architecture}": cfg.architecture != "skip",
        f"its mapping_lr_mul is {cfg.mapping_lr_mul}, the layout's is 0.01": cfg.mapping_lr_mul != 0.01,
    })  # fmt: skip
    tensors = generator.state_dict()
    g = {theirs: _rosinality_shape(theirs, tensors[ours]) for ours, theirs in rosinality.generator_keys(cfg).items()}
    for b in range(1, len(cfg.channels)):
        g[f"convs.{2 * b - 2}.conv.blur.kernel"] = _fir(4.0)
        g[f"to_rgbs.{b - 1}.upsample.kernel"] = _fir(4.0)
    out: dict[str, Any] = {"g_ema": _packed(g, half), "latent_avg": generator.w_mean.detach().cpu().clone()}
    d = generator.discriminator
    if d is not None and _fits_rosinality(d):
        own = d.state_dict()
        state = {theirs: own[ours] for ours, theirs in rosinality.discriminator_keys(d.cfg).items()}
        for i in range(1, len(d.cfg.channels)):
            state[f"convs.{i}.conv2.0.kernel"] = _fir(1.0)
            state[f"convs.{i}.skip.0.kernel"] = _fir(1.0)
        out["d"] = _packed(state, half)
    out["ganinv"] = {
        "name": generator.name,
        "w_std": float(generator.w_std),
        "conv_clamp": cfg.conv_clamp,
        "num_fp16_res": cfg.num_fp16_res,
        **extra,
    }
    return _saved(out)


def write_nvidia(generator: Generator, half: bool, extra: dict[str, Any]) -> bytes:
    """``{"G_ema": state dict, "D": state dict, "config": ...}`` with NVIDIA's names: plain tensors, no classes.

    ``config["G"]`` and ``config["D"]`` hold our configurations, ``config["init_kwargs"]`` what NVIDIA's ``Generator`` and
    ``Discriminator`` take; channels follow their rule where ``channel_base`` and ``channel_max`` are given.
    """
    cfg = generator.cfg
    tensors = generator.state_dict()
    g = {theirs: tensors[ours] for ours, theirs in nvidia.generator_keys(cfg).items()}
    g[nvidia.AVERAGE] = generator.w_mean
    for b in range(len(cfg.channels)):
        block = f"synthesis.b{4 * 2**b}"
        for layer in ("", ".conv0", ".conv1", ".skip") if b else ("", ".conv1"):
            if layer != ".skip" or cfg.architecture == "resnet":
                g[f"{block}{layer}.resample_filter"] = _fir(1.0)
    config: dict[str, Any] = {"G": cfg.model_dump(mode="json"), "w_std": float(generator.w_std), "name": generator.name}
    out: dict[str, Any] = {"G_ema": _packed(g, half), "config": config}
    init = {"G": _generator_kwargs(generator)}
    if (d := generator.discriminator) is not None:
        own = d.state_dict()
        state = {theirs: own[ours] for ours, theirs in nvidia.discriminator_keys(d.cfg).items()}
        for i in range(len(d.cfg.channels) - 1):
            block = f"b{d.cfg.resolution // 2**i}"
            layers = ["", ".conv0", ".conv1"] + [".skip"] * (d.cfg.architecture == "resnet")
            layers += [".fromrgb"] * (i == 0 or d.cfg.architecture == "skip")
            state |= {f"{block}{layer}.resample_filter": _fir(1.0) for layer in layers}
        state["b4.conv.resample_filter"] = _fir(1.0)
        if d.last_rgb is not None:
            state["b4.fromrgb.resample_filter"] = _fir(1.0)
        out["D"] = _packed(state, half)
        config["D"] = d.cfg.model_dump(mode="json")
        init["D"] = _discriminator_kwargs(d)
    config["init_kwargs"] = init
    out["ganinv"] = dict(extra)
    return _saved(out)


def _generator_kwargs(generator: Generator) -> dict[str, Any]:
    cfg = generator.cfg
    return {
        "z_dim": cfg.z_dim,
        "c_dim": cfg.c_dim,
        "w_dim": cfg.w_dim,
        "img_resolution": cfg.resolution,
        "img_channels": cfg.img_channels,
        "mapping_kwargs": {"num_layers": cfg.mapping_layers, "lr_multiplier": cfg.mapping_lr_mul},
        "synthesis_kwargs": {
            **_channel_rule(cfg.channels),
            "num_fp16_res": cfg.num_fp16_res,
            "conv_clamp": cfg.conv_clamp,
            "architecture": cfg.architecture,
        },
    }


def _discriminator_kwargs(d: Discriminator) -> dict[str, Any]:
    cfg = d.cfg
    return {
        "c_dim": cfg.c_dim,
        "img_resolution": cfg.resolution,
        "img_channels": cfg.img_channels,
        "architecture": cfg.architecture,
        **_channel_rule(cfg.channels),
        "num_fp16_res": cfg.num_fp16_res,
        "conv_clamp": cfg.conv_clamp,
        "mapping_kwargs": {"num_layers": cfg.mapping_layers or 8, "lr_multiplier": cfg.mapping_lr_mul},
        "epilogue_kwargs": {"mbstd_group_size": cfg.group, "mbstd_num_channels": cfg.std_channels},
    }


def _channel_rule(channels: tuple[int, ...]) -> dict[str, int]:
    """``channel_base`` and ``channel_max`` that give these widths, min(base // resolution, max); {} if none do."""
    top = max(channels)
    for b, width in enumerate(channels):
        base = width * 4 * 2**b
        if tuple(min(base // (4 * 2**i), top) for i in range(len(channels))) == channels:
            return {"channel_base": base, "channel_max": top}
    return {}


def _fits_rosinality(d: Discriminator) -> bool:
    return d.cfg.architecture == "resnet" and not d.cfg.c_dim and d.cfg.std_channels == 1 and d.cfg.group == 4


def _rosinality_shape(name: str, tensor: Tensor) -> Tensor:
    """A batch dimension before convolution weights, the constant and the maps; toRGB biases as [1, C, 1, 1]."""
    if name.endswith("noise.weight"):
        return tensor.reshape(1)
    if name.startswith("noises."):
        return tensor[None, None]
    if name == rosinality.GENERATOR_MARK or (name.endswith(".conv.weight") and tensor.ndim == 4):
        return tensor[None]
    if name.startswith("to_rgb") and name.endswith(".bias") and ".conv." not in name:
        return tensor[None, :, None, None]
    return tensor


def _fir(gain: float) -> Tensor:
    taps = torch.tensor(FIR_TAPS)
    return torch.outer(taps, taps) / taps.sum() ** 2 * gain


def _packed(tensors: dict[str, Tensor], half: bool) -> dict[str, Tensor]:
    dtype = torch.float16 if half else torch.float32
    return {n: t.detach().cpu().to(dtype).contiguous().clone() for n, t in tensors.items()}


def _saved(data: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(data, buffer)
    return buffer.getvalue()


def _refuse(layout: str, reasons: dict[str, bool]) -> None:
    if true := [reason for reason, holds in reasons.items() if holds]:
        raise ConfigError(
            f"the {layout} layout cannot hold this generator: {'; '.join(true)}; save it as ganinv or nvidia"
        )
