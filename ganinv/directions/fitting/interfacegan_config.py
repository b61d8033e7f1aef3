"""How a boundary is fitted."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ganinv.config import StrictModel
from ganinv.directions.fitting.separate import Estimator


class InterFaceGanConfig(StrictModel):
    """How a boundary is fitted. Defaults are the published ones."""

    tails: float = Field(default=0.02, gt=0)
    """Size of each tail: a ratio of the samples when at most 1, else a count. At most half of the samples."""
    split: float = Field(default=0.7, gt=0, le=1)
    """Share of each tail that trains; the rest validates."""
    estimator: Estimator = "svc"
    """``svc``, ``linear-svc`` and ``logistic`` separate the tails; ``ridge`` regresses all scores."""
    regularisation: float = Field(default=1.0, gt=0)
    """C of the classifiers. Ridge chooses its own on held-out samples."""
    invalid_value: float | None = None
    """Samples with this score are left out, as the published code does."""
    missing: Literal["refuse", "leave out"] = "refuse"
    """What to do with samples whose score is NaN."""
    bootstrap: int = Field(default=5, ge=0)
    """Refits on resampled training data, for the stability in the report."""
    minimum: int = Field(default=10, ge=2)
    """Fewest samples per tail."""
    seed: int = 0
