"""Backbones that begin from networks others trained: ArcFace's IR-SE-50 (pSp, section 3), an ImageNet ResNet-34 (ReStyle)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ganinv.errors import ConfigError, WeightsRefused
from ganinv.networks.adopt import finite, loaded, published_name
from ganinv.networks.irse import IRSE50
from ganinv.networks.keymaps import IR_SE_50_TRUNK, RESNET_34_TRUNK
from ganinv.networks.resnet import ResNet34
from ganinv.reading.checkpoint import open_checkpoint
from ganinv.reading.tensors import StoredTensor


def begin_trunks(inverter: nn.Module, file: str) -> None:
    """Every IR-SE-50 or ResNet-34 in the inverter begins with the weights of a file. Nothing in the file runs.

    A stem that sees a rendering beside the image takes the file's filters for the image; those for the rendering stay as they
    were drawn. A trunk without the last stage leaves the file's alone.

    Args:
        file: ``model_ir_se50.pth``, or torchvision's ``resnet34-*.pth``; path or fsspec URL.

    Raises:
        ConfigError: the inverter has no such trunk. WeightsRefused: the file is of another network.
    """
    trunks = [module for module in inverter.modules() if isinstance(module, IRSE50 | ResNet34)]
    if not trunks:
        raise ConfigError(
            "trunk_weights are for an IR-SE-50 or a ResNet-34, and this recipe has neither: set the backbone, or leave "
            "trunk_weights away"
        )
    with open_checkpoint(file) as checkpoint:
        tree = checkpoint.tree.get("state_dict", checkpoint.tree) if isinstance(checkpoint.tree, Mapping) else {}
        for trunk in trunks:
            _begin(trunk, tree, file)


@torch.no_grad()
def _begin(trunk: IRSE50 | ResNet34, tree: Mapping[Any, Any], file: str) -> None:
    rules = IR_SE_50_TRUNK if isinstance(trunk, IRSE50) else RESNET_34_TRUNK
    names = tree.keys()
    if isinstance(trunk, ResNet34) and any(str(name).startswith("layer1.") for name in names):
        tree = {_flat(str(name)): tensor for name, tensor in tree.items()}
    own = {n: t for n, t in trunk.state_dict().items() if not n.endswith("num_batches_tracked")}
    optional = {"stem.2.weight"} if isinstance(trunk, ResNet34) else set()  # torchvision's ReLU has no slopes
    found = {name: tree.get(published_name(name, rules)) for name in own}
    missing = sorted(
        name for name, t in found.items() if not isinstance(t, Tensor | StoredTensor) and name not in optional
    )
    if missing:
        raise WeightsRefused(
            f"{file} does not hold a {type(trunk).__name__}: missing {published_name(missing[0], rules)} and "
            f"{len(missing) - 1} more; give model_ir_se50.pth for IR-SE-50, torchvision's file for ResNet-34"
        )
    for name, tensor in own.items():
        given = found[name]
        if not isinstance(given, Tensor | StoredTensor):
            continue
        values = finite(loaded(given), f"{file}: {published_name(name, rules)}")
        if values.ndim == 4 and tensor.shape[1] == 2 * values.shape[1] and name.startswith("stem."):
            tensor[:, : values.shape[1]] = values.to(tensor)
        elif values.shape == tensor.shape:
            tensor.copy_(values)
        else:
            raise WeightsRefused(f"{file}: {name} has shape {tuple(values.shape)}, expected {tuple(tensor.shape)}")


_BLOCKS = (3, 4, 6, 3)


def _flat(name: str) -> str:
    """torchvision's ``layer2.0.conv1.weight`` as the encoders call it: ``body.3.conv1.weight``."""
    head, _, rest = name.partition(".")
    if not head.startswith("layer"):
        return name
    number, _, inner = rest.partition(".")
    stage = int(head.removeprefix("layer")) - 1
    return f"body.{sum(_BLOCKS[:stage]) + int(number)}.{inner}"
