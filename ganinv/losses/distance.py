"""Perceptual distances between images. Each returns features once per target, so that a loop never recomputes them."""

from __future__ import annotations

import contextlib
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
from ganinv.generators.channels import as_rgb
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.choosing import LPIPS_BACKBONES, choose_distance
from ganinv.losses.vgg import hub_file, missing, open_vgg16
from ganinv.networks.imagenet import ImageNetTrunk
from ganinv.reading.start import without_random_start
from ganinv.registry import Registry

Features = Sequence[Tensor]


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


def error_map(a: Features, b: Features, side: int) -> Tensor:
    """Where two feature sets differ: [B, 1, side, side], whose mean is about their distance.

    Each layer's squared differences at its own positions, brought to one size (LPIPS with spatial output).
    """
    maps = []
    for x, y in zip(a, b, strict=True):
        positions = x.shape[2] * x.shape[3]
        error = (x - y).square().sum(1, keepdim=True) * positions
        maps.append(F.interpolate(error, size=(side, side), mode="bilinear", align_corners=False))
    return reduce(torch.add, maps)


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


class PixelDistance:
    """The mean squared difference of pixels: a distance if there is no network to see more than that."""

    name = "mse"

    def features(self, images: Tensor) -> Features:
        return [images / math.sqrt(images[0].numel())]


class TrunkDistance:
    """Distance in the features of EfficientNet-Lite0, whose weights come with a package: as ``EmbeddedDistance``, over its
    first four stages, and brought to about the scale of that one, which the weights of methods are set for. Nobody calibrated
    it on people's judgements, as LPIPS is.

    Raises:
        ConfigError: the package is not installed.
    """

    name = "efficientnet-lite0"

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.trunk = ImageNetTrunk().to(device)

    def features(self, images: Tensor) -> Features:
        return [TRUNK_SCALE * _normalized(f) for f in self.trunk(halved(images, TRUNK_RESOLUTION), taps=4)]


TRUNK_SCALE = 0.25
"""Inversions of portraits at 0.085 by the embedded distance are at 1.84 by the plain one: 0.115 with this."""
TRUNK_RESOLUTION = 256
"""Larger images are halved until they are not: the network doubles what it is given."""


class SeenDistance:
    """A distance of networks that take RGB, between images of another number of channels, as people see them."""

    def __init__(self, distance: Distance) -> None:
        self.name, self._distance = distance.name, distance

    def features(self, images: Tensor) -> Features:
        return self._distance.features(as_rgb(images))


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

    Args:
        untrained: a backbone of random weights, which needs no file: what a discrepancy learns with.
    """

    def __init__(
        self,
        net: str,
        device: torch.device | str = "cpu",
        backbone: Path | None = None,
        *,
        untrained: bool = False,
    ) -> None:
        self.name = f"lpips-{net}"
        if untrained:
            self.model = lpips_model(net, None).to(device)
            return
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
            "use distance: gram-vgg16, or a generator saved with its discriminator"
        )
    return generator.discriminator


def gram(features: Tensor) -> Tensor:
    """Inner products of the channels of [B, C, h, w], divided by C*h*w: [B, C, C] (Johnson et al. 2016, section 3.2)."""
    flat = features.flatten(2)
    return flat @ flat.mT / features[0].numel()


def lpips_model(net: str, backbone: dict[str, Tensor] | None) -> Any:
    """The ``lpips`` package's model with a torchvision backbone state dict put in by hand (it would download it); None leaves
    random weights."""
    from ganinv.losses._compat import ensure_torchvision

    ensure_torchvision()
    import lpips

    with contextlib.nullcontext() if backbone is None else without_random_start():
        model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False).eval().requires_grad_(False)
    assert isinstance(model.net, nn.Module)
    if backbone is None:
        return model
    own = model.net.state_dict()
    # "slice2.3.weight" here is "features.3.weight" there.
    model.net.load_state_dict({name: backbone["features." + name.split(".", 1)[1]] for name in own})
    return model


def _normalized(features: Tensor, eps: float = 1e-8) -> Tensor:
    """Unit length over channels at each position, divided by the square root of the number of positions."""
    power = features.square().sum(dim=1, keepdim=True).add(eps)
    return features * (power * (features.shape[2] * features.shape[3])).rsqrt()


def _of_photos(make: Callable[[torch.device], Distance]) -> Callable[[Generator], Distance]:
    """A distance whose network was trained on photos, for the images of a generator."""

    def of(generator: Generator) -> Distance:
        made = make(generator.device)
        return made if generator.img_channels == 3 else SeenDistance(made)

    return of


DISTANCES: Registry[Callable[[Generator], Distance]] = Registry(
    "distance",
    {
        "auto": lambda generator: open_distance(choose_distance("auto", generator), generator),
        "embedded": EmbeddedDistance.of,
        "lpips-alex": _of_photos(lambda device: LpipsDistance("alex", device)),
        "lpips-vgg": _of_photos(lambda device: LpipsDistance("vgg", device)),
        "lpips-squeeze": _of_photos(lambda device: LpipsDistance("squeeze", device)),
        "vgg16-features": _of_photos(VggDistance),
        "vgg16-features-raw": _of_photos(lambda device: VggDistance(device, imagenet_norm=False)),
        "efficientnet-lite0": _of_photos(TrunkDistance),
        "mse": lambda generator: PixelDistance(),
        "gram-embedded": EmbeddedGram.of,
        "gram-vgg16": _of_photos(VggGram),
    },
)
"""Every distance by name: what opens it for a generator's images. Another one is an entry here, or ``DISTANCES.register``."""

DistanceName = Annotated[str, NameOf(DISTANCES)]


def open_distance(name: DistanceName, generator: Generator) -> Distance:
    """A distance by name.

    ``embedded`` and ``gram-embedded`` need a generator that comes with its discriminator; ``efficientnet-lite0`` a package
    with its weights; ``mse`` nothing; the others the file of their backbone in torch's hub cache
    (``torch.hub.get_dir()/checkpoints``). Nothing is downloaded. ``auto``, and ``embedded`` if there is no discriminator,
    are what :func:`ganinv.losses.choosing.choose_distance` makes of them. Networks see grey images and images with an opacity
    as people do.

    Raises:
        ConfigError: an unknown name, or what it needs is not there.
    """
    return DISTANCES[choose_distance(name, generator)](generator)
