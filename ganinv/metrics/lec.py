"""Latent editing consistency: does an encoder find an edit again? (Tov et al. 2021, "e4e", section 4)"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ganinv.errors import ConfigError, DataError

if TYPE_CHECKING:
    from ganinv.directions.direction import Direction


@dataclass(frozen=True)
class EditingConsistency:
    """Distances, one per image [N]: lower is better, 0 is an encoder that recovers every edit.

    They grow with the number of rows and the spread of W, so only encoders of one generator can be compared.
    """

    distances: np.ndarray

    @property
    def mean(self) -> float:
        """Over all images."""
        return float(self.distances.mean())

    def released(self, batch_size: int = 8) -> float:
        """The number that the released code prints: means of whole batches (an incomplete last one is left out), of which
        those within percentiles 1 and 99 count (``within_percentiles``).

        Raises:
            DataError: fewer images than one batch.
        """
        count = len(self.distances) // batch_size
        if count == 0:
            raise DataError(
                f"{len(self.distances)} images do not fill a batch of {batch_size}; give more, or a smaller one"
            )
        means = self.distances[: count * batch_size].reshape(count, batch_size).mean(1)
        return float(within_percentiles(means).mean())


def within_percentiles(values: np.ndarray, low: float = 1.0, high: float = 99.0) -> np.ndarray:
    """Values [N] between two percentiles, both included; the lower one is rounded down to a value, the higher one up."""
    least, most = np.percentile(values, low, method="lower"), np.percentile(values, high, method="higher")
    return values[(values >= least) & (values <= most)]


@torch.no_grad()
def editing_consistency(
    images: Tensor,
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    direction: Direction,
    strength: float,
    batch_size: int = 8,
) -> EditingConsistency:
    """``|| E(x) - undo(E(G(edit(E(x))))) ||`` over all rows of W+, for each image x.

    It takes an encoder: for inversions by optimisation E is not defined on an edited image.

    Args:
        images: [N, 3, H, W]. encode: images [B, 3, H, W] -> w [B, rows, w_dim], its mean latent included. decode: w ->
            images as ``encode`` takes them.
        direction: relative, so that ``-strength`` undoes ``strength``. Published: age, 3.

    Raises:
        ConfigError: an absolute direction, which nothing undoes. DataError: no images.
    """
    if direction.mode != "relative":
        raise ConfigError(
            f"direction {direction.name!r} is {direction.mode}: it sets a coordinate and cannot be undone; use mode: relative"
        )
    if len(images) == 0:
        raise DataError("editing consistency needs at least one image, got none")
    distances = []
    for batch in images.split(batch_size):
        w = encode(batch)
        found = encode(decode(direction.apply(w, strength)))
        distances.append((w - direction.apply(found, -strength)).flatten(1).norm(dim=1))
    return EditingConsistency(torch.cat(distances).double().cpu().numpy())
