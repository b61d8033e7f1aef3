"""What a degradation is: a configuration that changes one image, and may say which pixels it covered."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganinv.config import StrictModel

Image8 = NDArray[np.uint8]
"""uint8 [H, W, C]."""


@dataclass(frozen=True)
class Degraded:
    """An image of the size and channels that it had, and what of it is gone.

    Args:
        image: uint8 [H, W, C].
        hole: bool [H, W], true where pixels were covered; None if the degradation covers none.
    """

    image: Image8
    hole: NDArray[np.bool_] | None = None


class Degradation(StrictModel):
    """One kind of degradation. A new one is a subclass and a line in ``ganinv.degradations.registry``.

    ``apply`` is a pure function of the image and the random stream. Sizes are fractions of the image's longer side, so a
    degradation looks the same at every resolution.
    """

    kind: str

    @abstractmethod
    def apply(self, image: Image8, rng: np.random.Generator) -> Degraded:
        """The degraded image.

        Args:
            image: uint8 [H, W, C]; it is not changed.
        """


Span = tuple[float, float]
"""Least and largest value of a uniform draw."""
