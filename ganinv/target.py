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
        masks: [B, 1, R, R] in [0, 1], what of each image is to be reproduced; None is all of it.
    """

    images: Tensor
    ids: Sequence[str] = ()
    masks: Tensor | None = None

    def __post_init__(self) -> None:
        if self.images.ndim != 4:
            raise ValueError(f"Target.images must be [batch, channels, R, R], got shape {tuple(self.images.shape)}")
        if not self.ids:
            object.__setattr__(self, "ids", [str(i) for i in range(len(self.images))])
        if len(self.ids) != len(self.images) or len(set(self.ids)) != len(self.ids):
            raise ValueError(
                f"Target needs one unique id per image: {len(self.images)} images, ids {list(self.ids)!r:.200}"
            )
        wanted = (len(self.images), 1, *self.images.shape[2:])
        if self.masks is not None and self.masks.shape != wanted:
            raise ValueError(f"Target.masks must be {list(wanted)} for these images, got {list(self.masks.shape)}")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice) -> Target:
        return Target(self.images[index], self.ids[index], None if self.masks is None else self.masks[index])

    def to(self, device: torch.device | str) -> Target:
        return Target(self.images.to(device), self.ids, None if self.masks is None else self.masks.to(device))
