"""``Target``: what is inverted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Target:
    """A batch of images to invert.

    Args:
        images: [B, 3, R, R] in [-1, 1], at the generator's resolution.
        ids: one unique name per image; seeds every random choice made for that image.
    """

    images: Tensor
    ids: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.images.ndim != 4:
            raise ValueError(f"Target.images must be [batch, channels, R, R], got shape {tuple(self.images.shape)}")
        if not self.ids:
            object.__setattr__(self, "ids", [str(i) for i in range(len(self.images))])
        if len(self.ids) != len(self.images) or len(set(self.ids)) != len(self.ids):
            raise ValueError(
                f"Target needs one unique id per image: {len(self.images)} images, ids {list(self.ids)!r:.200}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice) -> Target:
        return Target(self.images[index], self.ids[index])

    def to(self, device: torch.device | str) -> Target:
        return Target(self.images.to(device), self.ids)
