"""Labellers by name: shipped ones, folders that training wrote (``labeller.json``, ``weights.safetensors``), and YAML."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ganinv.config import StrictModel, config_names, config_path, validate
from ganinv.errors import ConfigError, WeightsRefused
from ganinv.labels.attributes import AttributeNet
from ganinv.labels.base import Attribute, Labeller
from ganinv.labels.configs import read_labeller_config
from ganinv.labels.inputs import InputSpec
from ganinv.labels.network import NetworkLabeller
from ganinv.labels.outputs import Output
from ganinv.reading.start import without_random_start

CARD, WEIGHTS = "labeller.json", "weights.safetensors"


class LabellerCard(StrictModel):
    """Everything about a labeller except its weights."""

    name: str
    version: int
    attributes: dict[str, Attribute]
    channels: tuple[int, ...]
    eye_channels: tuple[int, ...] | None = None
    """Of the network that sees the eyes alone, where there is one."""
    input_size: int
    resize: str = "block average where the side is a multiple of input_size, else antialiased bilinear"
    weights_sha256: str
    measured: dict[str, Any]
    """Quality on held-out data, by condition and attribute."""
    data: str
    """What it was trained on, with the attribution its licence asks for."""


def open_labeller(name: str) -> Labeller:
    """A labeller by name.

    Args:
        name: a shipped one (``portraits-64``), the folder of one that training wrote, the name of a configuration in
            ``configs/labellers``, or the path of a YAML file of your own.

    Raises:
        ConfigError: no such labeller, or one whose parts are not installed. WeightsRefused: its weights are damaged, or
            not those that its model card or configuration names.
    """
    if name.endswith((".yaml", ".yml")) or name in config_names("labellers"):
        return read_labeller_config(config_path("labellers", name)).open()
    return open_trained(name)


def open_trained(name: str) -> NetworkLabeller:
    """A labeller of this project's own network: shipped, or a folder that training wrote."""
    folder = labeller_folder(name)
    card = read_card(name)
    content = (folder / WEIGHTS).read_bytes() if (folder / WEIGHTS).is_file() else b""
    found = hashlib.sha256(content).hexdigest()
    if found != card.weights_sha256:
        raise WeightsRefused(
            f"{WEIGHTS} of labeller {name!r} has sha256 {found[:12]}, its model card says {card.weights_sha256[:12]}; "
            "restore both files from the same release or training run"
        )
    with without_random_start():
        net = AttributeNet(len(card.attributes), card.channels, eye_channels=card.eye_channels)
    try:
        net.load_state_dict({key: tensor.float() for key, tensor in load(content).items()})
    except (RuntimeError, SafetensorError) as error:
        raise WeightsRefused(f"{WEIGHTS} of labeller {name!r} does not fit its model card: {error}") from error
    return NetworkLabeller(
        net,
        name=card.name,
        version=card.version,
        weights_sha256=card.weights_sha256,
        spec=InputSpec(size=card.input_size),
        outputs={key: Output(column=i) for i, key in enumerate(card.attributes)},
        attributes=card.attributes,
    )


def read_card(name: str) -> LabellerCard:
    """The model card of a labeller: measured quality, data, attribution."""
    path = labeller_folder(name) / CARD
    try:
        return validate(LabellerCard, json.loads(path.read_text()), f"{CARD} of labeller {name!r}")
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {CARD} of labeller {name!r}: {error}") from error


def labeller_names() -> list[str]:
    """Names of the shipped labellers."""
    return sorted(p.parent.name for p in _assets().glob(f"*/{CARD}"))


def labeller_folder(name: str) -> Path:
    """Where the files of a labeller are.

    Raises:
        ConfigError: ``name`` is neither a shipped labeller nor a folder with a model card.
    """
    for folder in (_assets() / name, Path(name)):
        if (folder / CARD).is_file():
            return folder
    raise ConfigError(
        f"no labeller {name!r}; shipped are: {', '.join(labeller_names())}; by configuration: "
        f"{', '.join(config_names('labellers'))}; or give a YAML file, or the folder that a training made, <store>/labellers/NAME"
    )


def half_weights(net: AttributeNet) -> tuple[bytes, str]:
    """(content of the weight file, in half precision, and its sha256)."""
    tensors: dict[str, Tensor] = {k: v.detach().cpu().to(torch.float16) for k, v in net.state_dict().items()}
    content = save(tensors)
    return content, hashlib.sha256(content).hexdigest()


def _assets() -> Path:
    return Path(__file__).parent / "assets"
