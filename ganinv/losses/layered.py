"""Cosines of features at several depths: E2Style's losses of identity and of face parsing (Wei et al. 2022, section III-B)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.config import NameOf
from ganinv.errors import ConfigError, WeightsRefused
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.identity import FaceEmbedding, crop_face, open_face_embedding
from ganinv.networks.adopt import Lazy, adopt_new, from_file
from ganinv.networks.parsing import ParsingTrunk
from ganinv.registry import Registry


class Layers(Protocol):
    """Features of images at several depths, each [B, F]."""

    def features(self, images: Tensor) -> list[Tensor]: ...


def layered_loss(layers: Layers, rendered: Tensor, target: Tensor) -> Tensor:
    """Sum over the depths of the mean over the batch of 1 - cos; gradients flow to ``rendered`` only."""
    return layered_terms(layers, rendered, target).sum()


def layered_terms(layers: Layers, rendered: Tensor, target: Tensor) -> Tensor:
    """``layered_loss`` by depth: [K]."""
    with torch.no_grad():
        wanted = layers.features(target)
    found = layers.features(rendered)
    pairs = zip(found, wanted, strict=True)
    return torch.stack([(1 - F.cosine_similarity(one, other, dim=1)).mean() for one, other in pairs])


class DiscriminatorLayers:
    """The discriminator's features at its three levels above 4x4, averaged down to a 4x4 grid: they need no download."""

    GRID, DEPTHS = 4, 3

    def __init__(self, discriminator: Discriminator) -> None:
        self.discriminator = discriminator.eval().requires_grad_(False)

    @classmethod
    def of(cls, generator: Generator, file: str | None) -> DiscriminatorLayers:
        if generator.discriminator is None:
            raise ConfigError(
                f"losses.layered has discriminator, and generator {generator.name!r} comes without one: set it to 0, or give "
                "a generator that was saved with its discriminator"
            )
        return cls(generator.discriminator)

    def features(self, images: Tensor) -> list[Tensor]:
        maps = [x for x in self.discriminator.features(images) if x.shape[-1] > self.GRID]
        return [F.adaptive_avg_pool2d(x, self.GRID).flatten(1) for x in maps[-self.DEPTHS :]]


class FaceLayers:
    """The face network after units 2, 6, 20 and 23 of its trunk, and its embedding before it is scaled to length 1."""

    UNITS = (2, 6, 20, 23)

    def __init__(self, network: FaceEmbedding) -> None:
        self.network = network

    def features(self, images: Tensor) -> list[Tensor]:
        network = self.network
        x, out = network.trunk.stem(crop_face(images)), []
        for number, unit in enumerate(network.trunk.units):
            x = unit(x)
            if number in self.UNITS:
                out.append(x.flatten(1))
        return [*out, network.unit(network.linear(network.norm(x).flatten(1)))]


class ParsingLayers:
    """The face-parsing network's maps, on the whole image."""

    def __init__(self, trunk: ParsingTrunk) -> None:
        self.trunk = trunk

    def features(self, images: Tensor) -> list[Tensor]:
        return [x.flatten(1) for x in self.trunk(images)]


def open_parsing(source: str | Mapping[str, Lazy]) -> ParsingTrunk:
    """The trunk from E2Style's ``parsing.pth``, frozen. Nothing in the file runs.

    Raises:
        WeightsRefused: not that network, tensors are missing, of another shape, or not finite.
    """
    return from_file(source, "the parsing network", _parsing)


def _parsing(tensors: Any, where: str) -> ParsingTrunk:
    if not isinstance(tensors, Mapping):
        raise WeightsRefused(
            f"{where} holds a {type(tensors).__name__}, expected the state dict of E2Style's parsing network"
        )
    names = ("conv1", "conv2", "conv3", "conv4", "center")
    rules = [(rf"levels\.{i}\.", f"{name}.") for i, name in enumerate(names)]
    unused = [name for name in tensors if str(name).startswith(("up_concat", "final."))]
    return adopt_new(ParsingTrunk, tensors, rules, where, unused)


def _of_file(name: str, open_layers: Callable[[str, Generator], Layers]) -> Callable[[Generator, str | None], Layers]:
    def of(generator: Generator, file: str | None) -> Layers:
        if file is None:
            raise ConfigError(
                f"losses.layered has {name}, a network that comes as a file: set losses.layered_weights.{name}"
            )
        return open_layers(file, generator)

    return of


LAYERS: Registry[Callable[[Generator, str | None], Layers]] = Registry(
    "network of layered losses",
    {
        "discriminator": DiscriminatorLayers.of,
        "face": _of_file("face", lambda file, g: FaceLayers(open_face_embedding(file).to(g.device))),
        "parsing": _of_file("parsing", lambda file, g: ParsingLayers(open_parsing(file).to(g.device))),
    },
)
"""Networks by name; what opens one for a generator's images, given the file of its weights."""

LayersName = Annotated[str, NameOf(LAYERS)]
