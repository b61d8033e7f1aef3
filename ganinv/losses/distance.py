"""Perceptual distances between images. Each returns features once per target, so that a loop never recomputes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from ganinv.errors import ConfigError
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.stylegan2 import Generator

DistanceName = Literal["embedded", "lpips-alex", "lpips-vgg", "lpips-squeeze"]
Features = Sequence[Tensor]

LPIPS_BACKBONES = {
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}


class Distance(Protocol):
    """A perceptual distance. ``name`` is stored with every number made with it."""

    name: str

    def features(self, images: Tensor) -> Features:
        """Features of images [B, 3, R, R] in [-1, 1], scaled so that summed squared differences are the distance."""
        ...


def between(a: Features, b: Features) -> Tensor:
    """The distance of two feature sets, per image: [B]."""
    # Added one after the other: a sum over a stack is done in an order that depends on the number of images.
    return reduce(torch.add, ((x - y).square().flatten(1).sum(1) for x, y in zip(a, b, strict=True)))


def open_distance(name: DistanceName, generator: Generator) -> Distance:
    """A distance by name. ``embedded`` needs a generator that comes with its discriminator; LPIPS its backbone's file."""
    if name == "embedded":
        if generator.discriminator is None:
            raise ConfigError(
                f"the embedded distance needs the discriminator of generator {generator.name!r}, and it has none; "
                "use distance: lpips-alex, or a generator saved with its discriminator"
            )
        return EmbeddedDistance(generator.discriminator)
    return LpipsDistance(name.removeprefix("lpips-"), generator.device)


class EmbeddedDistance:
    """Distance in the discriminator's features: needs no download (Pan et al. 2020, Deep Generative Prior, section 3.2).

    As in LPIPS, features are normalised over channels, differences squared, averaged over positions, and summed over the
    layers from full resolution down to 8x8.
    """

    name = "embedded"

    def __init__(self, discriminator: Discriminator) -> None:
        self.discriminator = discriminator.eval().requires_grad_(False)

    def features(self, images: Tensor) -> Features:
        return [_normalized(f) for f in self.discriminator.features(images) if f.shape[-1] >= 8]


class LpipsDistance:
    """LPIPS v0.1 (Zhang et al. 2018) with an ``alex``, ``vgg`` or ``squeeze`` backbone.

    The linear weights come with the ``lpips`` package. The backbone's file must lie in torch's hub cache
    (``torch.hub.get_dir()/checkpoints``); nothing is downloaded.
    """

    def __init__(self, net: str, device: torch.device | str = "cpu", backbone: Path | None = None) -> None:
        self.name = f"lpips-{net}"
        path = backbone or Path(torch.hub.get_dir()) / "checkpoints" / LPIPS_BACKBONES[net]
        if not path.is_file():
            raise ConfigError(
                f"{self.name} needs the torchvision weights {path.name} in {path.parent}; put the file there, "
                "or use distance: embedded, which needs none"
            )
        self.model = lpips_model(net, torch.load(path, map_location="cpu", weights_only=True)).to(device)

    def features(self, images: Tensor) -> Features:
        maps = self.model.net(self.model.scaling_layer(images))
        weights = [lin.model[-1].weight.clamp_min(0).sqrt() for lin in self.model.lins]
        return [_normalized(f, eps=1e-10) * w for f, w in zip(maps, weights, strict=True)]


def lpips_model(net: str, backbone: dict[str, Tensor]) -> Any:
    """The ``lpips`` package's model with a torchvision backbone state dict put in by hand (it would download it)."""
    from ganinv._compat import ensure_torchvision

    ensure_torchvision()
    import lpips

    model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False).eval().requires_grad_(False)
    assert isinstance(model.net, nn.Module)
    own = model.net.state_dict()
    # "slice2.3.weight" here is "features.3.weight" there.
    model.net.load_state_dict({name: backbone["features." + name.split(".", 1)[1]] for name in own})
    return model


def _normalized(features: Tensor, eps: float = 1e-8) -> Tensor:
    """Unit length over channels at each position, divided by the square root of the number of positions."""
    norm = features.square().sum(dim=1, keepdim=True).add(eps).sqrt()
    return features / norm / math.sqrt(features.shape[2] * features.shape[3])
