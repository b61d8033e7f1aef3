"""Turning left and right around."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from ganinv.degradations.base import Degradation, Degraded, Image8


class Mirror(Degradation):
    """The image mirrored, which its target is not: what looks left is to become what looks right, so that an encoder learns to
    leave the pose alone (pSp's frontalisation, Richardson et al. 2021, section 4.2)."""

    kind: Literal["mirror"] = "mirror"
    probability: float = Field(0.5, ge=0, le=1)

    def apply(self, image: Image8, rng: np.random.Generator) -> Degraded:
        return Degraded(image[:, ::-1] if rng.random() < self.probability else image)
