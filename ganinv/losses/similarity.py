"""Similarity of images of any domain: MoCo v2 features (Chen et al. 2020), in the place of a face's identity (e4e, Tov et al.
2021, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganinv.errors import WeightsRefused
from ganinv.generators.channels import as_rgb
from ganinv.networks.adopt import Lazy, adopt_new, from_file
from ganinv.networks.resnet50 import ResNet50

SIDE = 224
PREFIX = "module.encoder_q."


class MocoSimilarity(nn.Module):
    """``similarity(images [B, C, H, W] in [-1, 1]) -> [B, 2048]`` of unit length.

    As in the published encoders' code, images are brought to 224x224 by their nearest pixels and are not normalised further.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = ResNet50()

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.network(F.interpolate(as_rgb(images), size=(SIDE, SIDE), mode="nearest")), dim=1)

    def loss(self, y_hat: Tensor, y: Tensor) -> Tensor:
        """Mean over the batch of 1 - cos of the features of renderings and targets; gradients flow to ``y_hat`` only."""
        with torch.no_grad():
            wanted = self(y)
        return (1 - (self(y_hat) * wanted).sum(1)).mean()


def open_similarity(source: str | Mapping[str, Lazy]) -> MocoSimilarity:
    """The network from ``moco_v2_800ep_pretrain.pth.tar``, frozen. Nothing in the file runs.

    Args:
        source: path or fsspec URL of the file, or its state dict.

    Raises:
        WeightsRefused: not that network, tensors are missing, of another shape, or not finite.
    """
    return from_file(source, "the MoCo network", _adopted)


def _adopted(tree: Any, where: str) -> MocoSimilarity:
    tensors = tree.get("state_dict", tree) if isinstance(tree, Mapping) else tree
    if not isinstance(tensors, Mapping):
        raise WeightsRefused(f"{where} holds a {type(tensors).__name__}, expected the state dict of MoCo's ResNet-50")
    own = {str(n).removeprefix(PREFIX): t for n, t in tensors.items() if str(n).startswith(PREFIX)}
    if not own:
        names = ", ".join(str(name) for name in list(tensors)[:4])
        raise WeightsRefused(
            f"{where} is not a MoCo checkpoint: expected tensors under {PREFIX}, it holds {names or 'nothing'}"
        )
    unused = [name for name in own if name.startswith("fc.")]
    return adopt_new(MocoSimilarity, own, [(r"network\.", "")], where, unused)
