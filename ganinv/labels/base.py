"""``Labeller``: the base of every source of scores: a network, a pair of prompts or a table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ganinv.config import StrictModel
from ganinv.errors import DataError
from ganinv.generators.channels import as_rgb

Kind = Literal["logit", "probability", "standardised", "value", "degrees", "years", "rating", "label"]


class Attribute(StrictModel):
    """One column of scores: what its numbers are and what their sign means.

    ``logit``: unbounded log-odds, 0 is undecided. ``probability``: 0 to 1. ``standardised``: (value - mean) / std of the
    training data; the value itself, in ``unit``, is score * std + mean. The other kinds are what they say.
    """

    kind: Kind
    positive_means: str
    mean: float = 0.0
    std: float = 1.0
    unit: str = ""


class Labeller(ABC):
    """Images in, named scores out.

    Args:
        name, version: scores of different labellers or versions are not comparable.
        attributes: name -> what the score is, in the order of the scores.
        weights_sha256: of the weight file, or of the user's table.
        description: everything else that moves a score (input size, normalisation, prompts), JSON-able.
    """

    needs: Literal["images", "ids"] = "images"
    """What a call needs: a labeller that needs ``ids`` looks scores up, so nothing has to be rendered."""
    differentiable: bool = False
    """Whether ``score`` passes gradients on to the images."""

    def __init__(
        self,
        *,
        name: str,
        version: int,
        attributes: Mapping[str, Attribute],
        weights_sha256: str,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.version = name, version
        self.attributes = dict(attributes)
        self.weights_sha256 = weights_sha256
        self.description = dict(description or {})

    @property
    def identity(self) -> str:
        """``name@version``: what directions and collections record."""
        return f"{self.name}@{self.version}"

    @property
    def provenance(self) -> dict[str, Any]:
        """What a score must be traceable to: name, version, weights, and how images reach them."""
        return {
            "name": self.name,
            "version": self.version,
            "weights_sha256": self.weights_sha256,
            **self.description,
        }

    @torch.no_grad()
    def __call__(self, images: Tensor | None, ids: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Score images.

        Args:
            images: [B, 3, R, R], R any size, in [-1, 1] (clamped, as a saved image would be). May be None where
                ``needs`` is ``ids``.
            ids: the images' ids, for labellers that look scores up.

        Returns:
            attribute -> float32 [B], independent of the other images of the batch; NaN if there is no score.

        Raises:
            DataError: not a batch of colour images, or no ids where they are needed.
        """
        return self.score(images, ids)

    @abstractmethod
    def score(self, images: Tensor | None, ids: Sequence[str] | None = None) -> dict[str, Tensor]:
        """As a call, with gradients where the labeller is ``differentiable``."""

    def to(self, device: torch.device | str) -> Labeller:
        """Move its networks to a device, in place."""
        return self

    def checked(self, images: Tensor | None) -> Tensor:
        """Images as every network gets them first: float32 in [-1, 1]."""
        images = images if images is None or images.ndim != 4 else as_rgb(images)
        if images is None or images.ndim != 4 or images.shape[1] != 3:
            got = None if images is None else tuple(images.shape)
            raise DataError(f"labeller {self.identity} takes images [B, 3, R, R] in [-1, 1], got {got}")
        return images.float().clamp(-1, 1)
