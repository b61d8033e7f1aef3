"""Images of an indexed data set by position, for trainings: whatever its size, only the index's row groups in use are held."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ganinv.data.index import SourceIndex
from ganinv.errors import DataError

MOST_TRIES = 64  # neighbours that stand in for one image that cannot be read


class StreamedImages:
    """``images.load(positions)`` reads and decodes images by their place in the index (sorted by id).

    Args:
        index: of the data set. resolution: of the images [C, R, R].

    Raises:
        DataError: the data set has no images.
    """

    def __init__(self, index: SourceIndex, resolution: int) -> None:
        self._index, self._resolution = index, resolution
        self._count = index.count
        if not self._count:
            raise DataError(f"{index.place.url} has no images: training needs some, or none at all (samples alone)")

    def __len__(self) -> int:
        return self._count

    def load(self, positions: Sequence[int]) -> tuple[Tensor, list[str]]:
        """uint8 [N, C, R, R] and ids. Where an image cannot be read, the next readable one stands in for it, so a training
        does not stop for one file; which they are, `ganinv invert` of the data set tells.

        Raises:
            DataError: many images in a row cannot be read.
        """
        found: dict[int, tuple[Tensor, str]] = {}
        wanted = dict.fromkeys(positions)
        at = {position: position for position in wanted}
        for _ in range(MOST_TRIES):
            missing = [position for position in wanted if position not in found]
            if not missing:
                break
            names = dict(zip(missing, self._index.ids_at([at[p] for p in missing]), strict=True))
            loaded = self._index.load(list(dict.fromkeys(names.values())), self._resolution)
            images = ((loaded.images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
            by_id = dict(zip(loaded.ids, images, strict=True))
            found |= {p: (by_id[name], name) for p, name in names.items() if name in by_id}
            at |= {p: (at[p] + 1) % self._count for p in missing}
        else:
            raise DataError(
                f"{self._index.place.url}: {MOST_TRIES} images in a row from number {min(missing)} on cannot be read "
                f"({loaded.errors[0].message if loaded.errors else 'unknown'})"
            )
        return torch.stack([found[p][0] for p in positions]), [found[p][1] for p in positions]
