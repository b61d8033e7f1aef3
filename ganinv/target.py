"""``Target``: a batch of images to invert."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Target:
    """A batch of images to invert.

    Args:
        images: [B, 3, R, R] in [-1, 1], at the generator's resolution.
        ids: one unique name per image, kept as text; seeds every random choice made for that image.
        masks: [B, 1, R, R] in [0, 1], the region of each image to reproduce; None means all of it.
        segments: name -> [B, 1, R, R] in [0, 1], regions of the images, for the stages that invert each with a latent of
            its own.
        classes: [B] whole numbers, the class of each image, for a conditional generator: stages that start from the mean of W
            start from the mean of the class.
        photos: [B, 3, P, P] in [-1, 1], the same images with more pixels than the generator makes, for inverters that read
            as many; None gives them ``images``.
    """

    images: Tensor
    ids: Sequence[str] = ()
    masks: Tensor | None = None
    segments: Mapping[str, Tensor] | None = None
    classes: Tensor | None = None
    photos: Tensor | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.images, Tensor) or not self.images.is_floating_point():
            kind = self.images.dtype if isinstance(self.images, Tensor) else type(self.images).__name__
            raise ValueError(
                f"Target.images must be a tensor of floating-point numbers in [-1, 1], got {kind}: bytes become "
                "torch.as_tensor(images).float() / 127.5 - 1"
            )
        if self.images.ndim != 4:
            raise ValueError(f"Target.images must be [batch, channels, R, R], got shape {tuple(self.images.shape)}")
        if isinstance(self.ids, str):
            raise ValueError(f"Target.ids must be a list of names, got the text {self.ids!r}")
        ids = [str(i) for i in (self.ids if len(self.ids) else range(len(self.images)))]
        object.__setattr__(self, "ids", ids)
        if len(self.ids) != len(self.images) or len(set(self.ids)) != len(self.ids):
            raise ValueError(
                f"Target needs one unique id per image: {len(self.images)} images, ids {list(self.ids)!r:.200}"
            )
        if self.classes is not None and self.classes.shape != (len(self.images),):
            raise ValueError(
                f"Target.classes must be [{len(self.images)}] for these images, got {list(self.classes.shape)}"
            )
        if self.photos is not None and self.photos.shape[:2] != self.images.shape[:2]:
            raise ValueError(
                f"Target.photos must be {list(self.images.shape[:2])} images of another size, got {list(self.photos.shape)}"
            )
        wanted = (len(self.images), 1, *self.images.shape[2:])
        given = {"masks": self.masks, **{f"segments[{name!r}]": m for name, m in (self.segments or {}).items()}}
        for name, mask in given.items():
            if mask is not None and mask.shape != wanted:
                raise ValueError(f"Target.{name} must be {list(wanted)} for these images, got {list(mask.shape)}")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice) -> Target:
        return self._map(lambda t: t[index], self.ids[index])

    def some(self, rows: Sequence[int]) -> Target:
        """These images, in this order."""
        index = torch.as_tensor(rows, dtype=torch.long)
        return self._map(lambda t: t[index.to(t.device)], [self.ids[k] for k in rows])

    def to(self, device: torch.device | str) -> Target:
        return self._map(lambda t: t.to(device), self.ids)

    def _map(self, fn: Callable[[Tensor], Tensor], ids: Sequence[str]) -> Target:
        masks = None if self.masks is None else fn(self.masks)
        segments = None if self.segments is None else {name: fn(mask) for name, mask in self.segments.items()}
        classes = None if self.classes is None else fn(self.classes)
        photos = None if self.photos is None else fn(self.photos)
        return Target(fn(self.images), ids, masks, segments, classes, photos)
