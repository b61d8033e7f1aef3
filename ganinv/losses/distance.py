"""Perceptual distances between images. Each returns features once per target, so that a loop never recomputes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganinv.config import NameOf
from ganinv.errors import ConfigError
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.vgg import hub_file, missing, open_vgg16
from ganinv.registry import Registry

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


def halved(images: Tensor, most: int | None) -> Tensor:
    """Images [B, C, R, R] averaged over 2x2 pixels until R <= ``most``; None leaves them."""
    while most is not None and images.shape[-1] > most:
        images = F.avg_pool2d(images, 2)
    return images


class EmbeddedDistance:
    """Distance in the discriminator's features: needs no download (Pan et al. 2020, Deep Generative Prior, section 3.2).

    As in LPIPS, features are normalised over channels, differences squared, averaged over positions, and summed over the
    layers from full resolution down to 8x8.
    """

    name = "embedded"

    def __init__(self, discriminator: Discriminator) -> None:
        self.discriminator = discriminator.eval().requires_grad_(False)

    @classmethod
    def of(cls, generator: Generator) -> EmbeddedDistance:
        return cls(discriminator_of(generator, cls.name))

    def features(self, images: Tensor) -> Features:
        return [_normalized(f) for f in self.discriminator.features(images) if f.shape[-1] >= 8]


class ReducedDistance:
    """A distance whose network computes in bfloat16; its features are float32 again before they are compared."""

    def __init__(self, distance: Distance, device: str) -> None:
        self.name, self._distance, self._device = distance.name, distance, device

    def features(self, images: Tensor) -> Features:
        with torch.autocast(self._device, torch.bfloat16):
            return [f.float() for f in self._distance.features(images)]


class LpipsDistance:
    """LPIPS v0.1 (Zhang et al. 2018) with an ``alex``, ``vgg`` or ``squeeze`` backbone.

    The linear weights come with the ``lpips`` package. The backbone's file must lie in torch's hub cache
    (``torch.hub.get_dir()/checkpoints``); nothing is downloaded.
    """

    def __init__(self, net: str, device: torch.device | str = "cpu", backbone: Path | None = None) -> None:
        self.name = f"lpips-{net}"
        path = backbone or hub_file(LPIPS_BACKBONES[net])
        if not path.is_file():
            raise missing(self.name, path)
        self.model = lpips_model(net, torch.load(path, map_location="cpu", weights_only=True)).to(device)

    def features(self, images: Tensor) -> Features:
        maps = self.model.net(self.model.scaling_layer(images))
        weights = [lin.model[-1].weight.clamp_min(0).sqrt() for lin in self.model.lins]
        return [_normalized(f, eps=1e-10) * w for f, w in zip(maps, weights, strict=True)]


class VggDistance:
    """Mean squared differences of four VGG16 activations (Image2StyleGAN, Abdal et al. 2019, section 3.1).

    Images larger than 256 pixels are halved until they are not.

    Args:
        imagenet_norm: see :class:`~ganinv.losses.vgg.Vgg16`; community code of the method feeds plain [0, 1]
            (``vgg16-features-raw``).
    """

    LAYERS = ("relu1_1", "relu1_2", "relu3_2", "relu4_2")

    def __init__(
        self, device: torch.device | str = "cpu", *, imagenet_norm: bool = True, backbone: Path | None = None
    ) -> None:
        self.name = "vgg16-features" if imagenet_norm else "vgg16-features-raw"
        self.vgg = open_vgg16(self.LAYERS, self.name, imagenet_norm=imagenet_norm, path=backbone).to(device)

    def features(self, images: Tensor) -> Features:
        return [f / math.sqrt(f[0].numel()) for f in self.vgg(halved(images, VGG_RESOLUTION))]


VGG_RESOLUTION = 256


class VggGram:
    """Style: the Gram matrix of VGG16's relu3_3, as Image2StyleGAN++ (Abdal et al. 2020) transfers it."""

    name = "gram-vgg16"

    def __init__(self, device: torch.device | str = "cpu", *, backbone: Path | None = None) -> None:
        self.vgg = open_vgg16(("relu3_3",), self.name, path=backbone).to(device)

    def features(self, images: Tensor) -> Features:
        return [gram(f) for f in self.vgg(halved(images, VGG_RESOLUTION))]


class EmbeddedGram:
    """Style without a download: Gram matrices of the discriminator's features at a quarter of the resolution, where
    relu3_3 is in VGG16, or at 8x8 where that is larger."""

    name = "gram-embedded"

    def __init__(self, discriminator: Discriminator) -> None:
        self.discriminator = discriminator.eval().requires_grad_(False)

    @classmethod
    def of(cls, generator: Generator) -> EmbeddedGram:
        return cls(discriminator_of(generator, cls.name))

    def features(self, images: Tensor) -> Features:
        size = max(8, images.shape[-1] // 4)
        return [gram(f) for f in self.discriminator.features(images) if f.shape[-1] == size]


def discriminator_of(generator: Generator, distance: str) -> Discriminator:
    """The discriminator that a generator comes with.

    Raises:
        ConfigError: it comes with none.
    """
    if generator.discriminator is None:
        raise ConfigError(
            f"the {distance} distance needs the discriminator of generator {generator.name!r}, and it has none; "
            "use distance: lpips-alex, or a generator saved with its discriminator"
        )
    return generator.discriminator


def gram(features: Tensor) -> Tensor:
    """Inner products of the channels of [B, C, h, w], divided by C*h*w: [B, C, C] (Johnson et al. 2016, section 3.2)."""
    flat = features.flatten(2)
    return flat @ flat.mT / features[0].numel()


def lpips_model(net: str, backbone: dict[str, Tensor]) -> Any:
    """The ``lpips`` package's model with a torchvision backbone state dict put in by hand (it would download it)."""
    from ganinv.losses._compat import ensure_torchvision

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


DISTANCES: Registry[Callable[[Generator], Distance]] = Registry(
    "distance",
    {
        "embedded": EmbeddedDistance.of,
        "lpips-alex": lambda generator: LpipsDistance("alex", generator.device),
        "lpips-vgg": lambda generator: LpipsDistance("vgg", generator.device),
        "lpips-squeeze": lambda generator: LpipsDistance("squeeze", generator.device),
        "vgg16-features": lambda generator: VggDistance(generator.device),
        "vgg16-features-raw": lambda generator: VggDistance(generator.device, imagenet_norm=False),
        "gram-embedded": EmbeddedGram.of,
        "gram-vgg16": lambda generator: VggGram(generator.device),
    },
)
"""Every distance by name: what opens it for a generator's images. Another one is an entry here, or ``DISTANCES.register``."""

DistanceName = Annotated[str, NameOf(DISTANCES)]


def open_distance(name: DistanceName, generator: Generator) -> Distance:
    """A distance by name.

    ``embedded`` and ``gram-embedded`` need a generator that comes with its discriminator, and nothing else; the others
    need the file of their backbone in torch's hub cache (``torch.hub.get_dir()/checkpoints``). Nothing is downloaded.

    Raises:
        ConfigError: an unknown name, or what it needs is not there.
    """
    return DISTANCES[name](generator)
