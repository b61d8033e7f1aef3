"""How far apart two sets of reconstructions are, by a network that learns to tell (UDA-Inversion, Xing et al. 2022, section
3.2; the f-divergence of Acuna et al. 2021, with Pearson's chi squared)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from ganinv.generators.discriminator import Discriminator
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.distance import Distance, EmbeddedDistance, LpipsDistance, between, discriminator_of

LIKE_LPIPS = 1 / 3
"""So that l of an untrained network is about 0.5, as by LPIPS: the published weight of the discrepancy is for that."""
FeaturesName = Literal["embedded", "lpips-alex"]


class Discrepancy:
    """``discrepancy(source, target)`` of images [B, C, R, R] each, in [-1, 1]: one number for both batches.

    It is l(source) - phi*(l(target)), where l is the mean distance between what a learned network and a fixed one see. The
    learned network, of the same form, raises it; who reconstructs is to bring it to zero.

    Args:
        fixed: features that stay as they are; nothing is differentiated through them.
        learned: features of ``network``. scale: of l.
    """

    def __init__(self, fixed: Distance, learned: Distance, network: nn.Module, scale: float = 1.0) -> None:
        self.fixed, self.learned, self.network, self.scale = fixed, learned, network, scale

    def distance(self, images: Tensor) -> Tensor:
        """l: how differently the two networks see the images, their mean."""
        with torch.no_grad():
            known = self.fixed.features(images)
        return self.scale * between(self.learned.features(images), known).mean()

    def __call__(self, source: Tensor, target: Tensor) -> Tensor:
        return self.distance(source) - conjugate(self.distance(target))


def conjugate(v: Tensor) -> Tensor:
    """phi*, the convex conjugate of Pearson's chi squared: v^2 / 4 + v."""
    return v.square() / 4 + v


def embedded(generator: Generator) -> Discrepancy:
    """On the discriminator's features, all layers alike; the learned network is one of its shape with random weights."""
    own = discriminator_of(generator, EmbeddedDistance.name)
    fixed = EmbeddedDistance(own)
    network = Discriminator.from_config(own.cfg).to(generator.device)
    layers = sum(1 for block in range(len(own.blocks) + 1) if own.resolution >> block >= 8)
    return Discrepancy(fixed, EmbeddedDistance(network), network, LIKE_LPIPS / layers)


def lpips_alex(generator: Generator) -> Discrepancy:
    """On AlexNet's features with LPIPS's weights of channels, as published; the learned AlexNet has random weights."""
    fixed = LpipsDistance("alex", generator.device)
    learned = LpipsDistance("alex", generator.device, untrained=True)
    return Discrepancy(fixed, learned, learned.model.net)


DISCREPANCIES: dict[FeaturesName, Callable[[Generator], Discrepancy]] = {"embedded": embedded, "lpips-alex": lpips_alex}
