"""The reconstruction objective that optimisation and tuning share."""

from __future__ import annotations

import torch
from torch import Tensor

from ganinv.config import StrictModel
from ganinv.losses.distance import Distance, DistanceName, Features, between
from ganinv.stages.base import Context
from ganinv.target import Target


class ReconstructionLoss(StrictModel):
    """``distance_weight`` * perceptual distance + ``mse_weight`` * mean squared error on [-1, 1]."""

    distance: DistanceName = "embedded"
    distance_weight: float = 1.0
    mse_weight: float = 1.0

    def prepare(self, target: Target, context: Context) -> Objective:
        return Objective(self, context.distance(self.distance), target.images)


class Objective:
    """The loss against one batch of targets, with the targets' features computed once."""

    def __init__(self, cfg: ReconstructionLoss, distance: Distance, images: Tensor) -> None:
        self.cfg, self._distance, self._images = cfg, distance, images
        with torch.no_grad():
            self._features: Features = [f.detach() for f in distance.features(images)] if cfg.distance_weight else []

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Per-image loss and per-image perceptual distance (zero when it has no weight): [B], [B]."""
        loss = images.new_zeros(len(images))
        distance = images.new_zeros(len(images))
        if self.cfg.distance_weight:
            distance = between(self._distance.features(images), self._features)
            loss = loss + self.cfg.distance_weight * distance
        if self.cfg.mse_weight:
            loss = loss + self.cfg.mse_weight * (images - self._images).square().mean(dim=(1, 2, 3))
        return loss, distance

    def keep(self, index: Tensor) -> None:
        """Go on with some of the images only."""
        self._images = self._images[index]
        self._features = [f[index] for f in self._features]
