"""What a published encoder checkpoint is, told from its names, shapes and options; no weights are needed for that.

Formats: pSp, e4e, ReStyle, HyperStyle (and its W encoder) and HFGI write ``{"state_dict", "opts", "latent_avg"}`` with one
prefix per network, and users save the state dict alone; PadInv writes ``{"models": {"encoder", "generator"}}``; In-Domain
inversion writes a bare state dict; SAM writes ``{"sd_base", "W+", "F4", ...}``. Files of the same outer form whose networks
differ are distinguished by ``published.kinds``.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from ganinv.errors import WeightsRefused
from ganinv.methods.published.description import EncoderDescription, Tensors, described
from ganinv.methods.published.kinds import kind_of, known_parts
from ganinv.networks.adopt import Lazy
from ganinv.reading.stub import Stub
from ganinv.reading.tensors import StoredArray, StoredTensor

Family = Literal["psp", "e4e", "w", "naive-w+", "in-domain"]

# HFGI as its users pack it again: one dict for each network.
_REPACKED = {"encoder": "encoder", "decoder": "decoder", "align": "grid_align", "res": "residue"}


@dataclass(frozen=True)
class EncoderType:
    """A class of the published code: how its heads become rows, on which backbone, with or without a pyramid."""

    family: Family
    backbone: Literal["ir-se-50", "resnet-34"] = "ir-se-50"
    pyramid: bool = False


ENCODER_TYPES = {
    "GradualStyleEncoder": EncoderType("psp", pyramid=True),
    "ResNetGradualStyleEncoder": EncoderType("psp", "resnet-34", pyramid=True),
    "BackboneEncoder": EncoderType("psp"),
    "ResNetBackboneEncoder": EncoderType("psp", "resnet-34"),
    "Encoder4Editing": EncoderType("e4e", pyramid=True),
    "ProgressiveBackboneEncoder": EncoderType("e4e"),
    "ResNetProgressiveBackboneEncoder": EncoderType("e4e", "resnet-34"),
    "BackboneEncoderUsingLastLayerIntoW": EncoderType("w"),
    "WEncoder": EncoderType("w"),
    "SingleStyleCodeEncoder": EncoderType("w"),
    "BackboneEncoderUsingLastLayerIntoWPlus": EncoderType("naive-w+"),
    "StyleGANEncoderNet": EncoderType("in-domain"),
}


def describe(
    tree: Any, *, encoder_type: str | None = None, default_type: str | None = None, where: str = "the checkpoint"
) -> EncoderDescription:
    """What the checkpoint ``tree`` is.

    Args:
        encoder_type: the published class, for files whose options do not name it, or wrongly.
        default_type: the same, where nothing else says it.

    Raises:
        WeightsRefused: it is not an encoder checkpoint, one of an unknown kind, or of two that cannot be distinguished.
    """
    if not isinstance(tree, Mapping):
        raise WeightsRefused(f"{where} holds a {type(tree).__name__}, expected the dict of an encoder checkpoint")
    if "block0.conv.weight" in tree:
        return _in_domain(_tensors(tree), where)
    tree = _wrapped(tree)
    parts = _parts(tree, where)
    opts = _plain(tree.get("opts"))
    if (kind := kind_of(parts)) is not None:
        return kind.describe(parts, opts, _latent_avg(tree.get("latent_avg"), where), where)
    encoder = parts.get("encoder")
    method, name = _method(parts, opts, encoder_type or opts.get("encoder_type") or default_type, where)
    latent_avg = _latent_avg(tree.get("latent_avg"), where)
    channels = 6 if "hypernet" in parts else _input_channels(encoder) if encoder else 3
    return described(method, name, channels, parts, opts, latent_avg, where)


def _wrapped(tree: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The dictionary of the published programs around a state dict that was saved without it, as in a file of safetensors; the
    mean latent lies among the tensors there, and options are lost."""
    first = {str(name).removeprefix("module.").partition(".")[0] for name in tree}
    if "state_dict" in tree or not first & {"encoder", "hypernet"} or isinstance(tree.get("encoder"), Mapping):
        return tree
    own = {name: value for name, value in tree.items() if name not in ("latent_avg", "opts")}
    return {"state_dict": own, "latent_avg": tree.get("latent_avg"), "opts": tree.get("opts")}


def _parts(tree: Mapping[Any, Any], where: str) -> dict[str, Tensors]:
    if isinstance(tree.get("state_dict"), Mapping):
        tensors = _tensors(tree["state_dict"])
        if "fcs.0.weight" in tensors:
            raise WeightsRefused(_CLASSIFIER.format(where=where))
        if tensors and all(name.startswith("module.") for name in tensors):
            tensors = {name.removeprefix("module."): t for name, t in tensors.items()}
        parts: dict[str, Tensors] = {}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = tensor
    elif isinstance(tree.get("sd_base"), Mapping):
        parts = {str(name): _tensors(part) for name, part in tree.items() if isinstance(part, Mapping)}
    elif isinstance(tree.get("models"), Mapping):
        parts = _of_models(tree["models"])
    elif {"align", "res"} <= tree.keys():
        parts = {ours: _tensors(tree[n]) for n, ours in _REPACKED.items() if isinstance(tree.get(n), Mapping)}
    elif "fcs.0.weight" in tree:
        raise WeightsRefused(_CLASSIFIER.format(where=where))
    elif "output_layer.3.weight" in tree and "body.0.res_layer.0.weight" in tree:
        raise WeightsRefused(
            f"{where} is the ArcFace IR-SE-50 face network, not an encoder; it serves as identity loss "
            "(ganinv.losses.identity.open_face_embedding)"
        )
    else:
        names = ", ".join(str(key) for key in list(tree)[:6])
        raise WeightsRefused(
            f"{where} is not an encoder checkpoint: expected 'state_dict' with encoder.* or hypernet.*, and 'opts'; "
            f"it holds {names or 'nothing'}"
        )
    for one, inside in parts.items():  # one wrapper of DataParallel for each network
        if inside and all(name.startswith("module.") for name in inside):
            parts[one] = {name.removeprefix("module."): t for name, t in inside.items()}
    parts.pop("w_encoder", None)  # HyperStyle's, in files saved halfway: its own file is the one to use
    if (kind := kind_of(parts)) is not None:
        parts = {name: inside for name, inside in parts.items() if name not in kind.ignored}
    unknown = sorted(parts.keys() - set(known_parts()))
    if unknown or not parts.keys() - {"decoder"}:
        raise WeightsRefused(
            f"{where} is an encoder checkpoint of an unknown kind: its state_dict has the parts {sorted(parts)}, "
            f"known are {', '.join(known_parts())}"
        )
    return parts


def _of_models(models: Mapping[Any, Any]) -> dict[str, Tensors]:
    """Networks of a file by GenForce's and Hammer's runners: one dict for each; the averaged generator where there is one."""
    known = {name: _tensors(models[name]) for name in models if isinstance(models[name], Mapping)}
    generator = next((known[name] for name in ("generator_smooth", "generator") if name in known), None)
    parts = {"encoder": known["encoder"]} if "encoder" in known else {}
    return parts | ({} if generator is None else {"decoder": generator})


_CLASSIFIER = (
    "{where} is Style Transformer's classifier of latents, not an encoder; it serves label-based edits "
    "(ganinv.networks.latent_classifier.open_latent_classifier, ClassifierGradientEditor)"
)


def _method(parts: dict[str, Tensors], opts: dict[str, Any], said: Any, where: str) -> tuple[str, str | None]:
    if "hypernet" in parts:
        return "hyperstyle", None
    fusion = {"grid_align", "residue"} & parts.keys()
    if fusion and len(fusion) < 2:
        raise WeightsRefused(
            f"{where} is an HFGI checkpoint without its {({'grid_align', 'residue'} - fusion).pop()}.*"
        )
    if fusion:
        return "hfgi", "Encoder4Editing" if "encoder" in parts else None
    if "encoder" not in parts:
        raise WeightsRefused(f"{where} has the parts {sorted(parts)}, but no encoder.*")
    name = _encoder_type(parts["encoder"], said, where)
    family = ENCODER_TYPES[name].family
    if not _sees_rendering(parts["encoder"], opts):
        return family, name
    # IntereStyle's trainer is ReStyle's with one more option, and its files have the same names.
    return ("interestyle" if opts.get("apply_mask_loss") else f"restyle-{family}"), name


def _encoder_type(encoder: Tensors, said: Any, where: str) -> str:
    """The class of the published code, by its name, or by its tensors where they tell.

    pSp and e4e have the same names and shapes: there only the options tell. Encoders into W were trained by several
    programs, whose options may name another class than the one that was saved.
    """
    if said is not None and said not in ENCODER_TYPES:
        raise WeightsRefused(f"{where}: encoder type {said!r:.60} is not known; known are {', '.join(ENCODER_TYPES)}")
    if "linear.weight" in encoder:
        naive = "output_layer_2.3.weight" in encoder
        found = "BackboneEncoderUsingLastLayerIntoWPlus" if naive else "WEncoder"
        return said if said is not None and ENCODER_TYPES[said].family == ENCODER_TYPES[found].family else found
    if said is None:
        raise WeightsRefused(
            f"{where}: its options do not name the encoder type, and its tensors fit several "
            "(GradualStyleEncoder and Encoder4Editing are alike in all but what they mean); say which: encoder_type=..."
        )
    return str(said)


def _sees_rendering(encoder: Tensors, opts: dict[str, Any]) -> bool:
    return _input_channels(encoder) == 6 and opts.get("label_nc") in (None, 0)


def _input_channels(encoder: Tensors) -> int:
    for name in ("input_layer.0.weight", "conv1.weight"):
        if name in encoder and len(encoder[name].shape) == 4:
            return int(encoder[name].shape[1])
    return 3


def _latent_avg(value: Any, where: str) -> Lazy | None:
    if value is None or _is_tensor(value):
        return value
    if isinstance(value, StoredArray):
        value = value.load()
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return torch.from_numpy(value)
    raise WeightsRefused(f"{where}: latent_avg is a {type(value).__name__}, expected a tensor of the mean latent")


def _in_domain(tensors: Tensors, where: str) -> EncoderDescription:
    last = max(int(m[1]) for name in tensors if (m := re.match(r"block(\d{1,3})\.", name)))
    first, fc = tensors["block0.conv.weight"], tensors.get(f"block{last}.fc.weight")
    if not 2 <= last <= 9 or len(first.shape) != 4 or fc is None or len(fc.shape) != 2:
        raise WeightsRefused(
            f"{where} looks like an In-Domain encoder, but it does not go from block0.conv.weight to block2 .. block9 with "
            "an fc.weight"
        )
    size = 2 ** (last + 1)
    return EncoderDescription(
        method="in-domain",
        encoder_type="StyleGANEncoderNet",
        opts={},
        n_styles=2 * last,
        input_size=(size, size),
        input_channels=int(first.shape[1]),
        latent_avg=None,
        parts={"encoder": tensors},
    )


def _tensors(tree: Mapping[Any, Any]) -> Tensors:
    return {name: value for name, value in tree.items() if isinstance(name, str) and _is_tensor(value)}


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor | StoredTensor)


def _plain(opts: Any) -> dict[str, Any]:
    """Options as a dict of plain values, whether the file holds a dict or an ``argparse.Namespace``."""
    if isinstance(opts, Stub):
        opts = opts.attributes or opts.items
    if isinstance(opts, argparse.Namespace):
        opts = vars(opts)
    if not isinstance(opts, Mapping):
        return {}
    return {str(key): _plain_value(value, 4) for key, value in opts.items()}


def _plain_value(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple) and depth:
        return [_plain_value(v, depth - 1) for v in value]
    if isinstance(value, Mapping) and depth:
        return {str(k): _plain_value(v, depth - 1) for k, v in value.items()}
    return f"<{type(value).__name__}>"
