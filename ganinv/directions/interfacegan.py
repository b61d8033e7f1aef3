"""InterFaceGAN: the normal of the hyperplane that separates samples with an attribute from those without.

Shen et al. 2020 (CVPR), section 2.2, and the published code's recipe: sort by score, take both tails, split them, fit a
linear SVM, report the accuracy on held-out tails and on all remaining samples. Where scores are continuous, ridge
regression on all of them uses far more of the information and is the better estimator in W, whose covariance is far
from isotropic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ganinv.config import StrictModel
from ganinv.directions.direction import Direction, Mode
from ganinv.directions.projection import project_out
from ganinv.directions.separate import fit_ridge, fit_svc
from ganinv.errors import DataError

__all__ = ["Boundary", "InterFaceGanConfig", "fit_interfacegan", "project_out", "select_tails"]


class InterFaceGanConfig(StrictModel):
    """How a boundary is fitted. Defaults are the published ones."""

    tails: float = Field(default=0.02, gt=0)
    """Size of each tail: a ratio of the samples when at most 1, else a count. At most half of the samples."""
    split: float = Field(default=0.7, gt=0, le=1)
    """Share of each tail that trains; the rest validates."""
    estimator: Literal["svc", "ridge"] = "svc"
    regularisation: float = Field(default=1.0, gt=0)
    """C of the SVM. Ridge chooses its own on held-out samples."""
    invalid_value: float | None = None
    """Samples with this score are left out, as the published code does."""
    missing: Literal["refuse", "leave out"] = "refuse"
    """What to do with samples whose score is NaN."""
    bootstrap: int = Field(default=5, ge=0)
    """Refits on resampled training data, for the stability in the report."""
    minimum: int = Field(default=10, ge=2)
    """Fewest samples per tail."""
    seed: int = 0


@dataclass(frozen=True)
class Boundary:
    """A fitted separating plane ``w . vector + intercept = 0``.

    Args:
        vector: float32 [D], norm 1, towards higher scores.
        unit: standard deviation of the samples' coordinate along the vector.
        report: see ``fit_interfacegan``.
    """

    attribute: str
    vector: np.ndarray
    intercept: float
    unit: float
    report: dict[str, Any]

    def direction(
        self,
        generator_name: str,
        generator_fingerprint: str,
        *,
        name: str | None = None,
        positive_means: str = "",
        labeller: str | None = None,
        layers: tuple[int, int] | None = None,
        mode: Mode = "relative",
    ) -> Direction:
        """The boundary's normal as a direction of W, named after the attribute unless told otherwise."""
        return Direction(
            name=name or self.attribute,
            vector=self.vector,
            space="w",
            generator_name=generator_name,
            generator_fingerprint=generator_fingerprint,
            method=f"interfacegan-{self.report['estimator']}",
            layers=layers,
            unit=self.unit,
            mode=mode,
            positive_means=positive_means or f"higher score of {self.attribute}",
            intercept=self.intercept,
            labeller=labeller,
            report=self.report,
        )


def fit_interfacegan(
    latents: np.ndarray,
    scores: np.ndarray,
    config: InterFaceGanConfig | None = None,
    *,
    attribute: str,
    ids: Sequence[str] | Sequence[int] | np.ndarray | None = None,
) -> Boundary:
    """Fit the boundary of one attribute. The result depends on neither the order nor the partition of the rows.

    Args:
        latents: [N, D]. scores: [N] or [N, 1], any monotone score.
        attribute: named in errors and in the report.
        ids: [N], unique: they break ties between equal scores. Row numbers by default.

    Returns:
        The boundary. Its report: ``estimator``, ``samples``, ``left_out``, ``k`` (size of each tail),
        ``train_per_tail`` (SVC) or ``train`` (ridge), ``validation_accuracy`` (held-out tails; None when ``split``
        holds none out), ``remaining_accuracy`` (samples outside the tails, labelled by the mid-range of all scores as
        published; None when there are none), ``stability`` (mean cosine of bootstrap refits; None without), ``score``
        statistics, ``config``.

    Raises:
        DataError: shapes that do not fit, or degenerate scores.
    """
    config = config or InterFaceGanConfig()
    x, y, keys, left_out = _valid(latents, scores, ids, config, attribute)
    k = int(config.tails if config.tails > 1 else len(y) * config.tails)
    k = min(k, len(y) // 2)
    if k < config.minimum:
        raise DataError(
            f"attribute {attribute!r}: {len(y)} valid samples with tails={config.tails} give {k} samples per class, "
            f"at least {config.minimum} are needed; sample more, or take larger tails"
        )
    top, bottom = select_tails(y, keys, k)
    if y[top].min() <= y[bottom].max():
        raise DataError(
            f"attribute {attribute!r}: the highest {k} and the lowest {k} scores overlap (both hold "
            f"{y[bottom].max():g}), so score does not tell the classes apart (values {y.min():g} .. {y.max():g}); "
            "scores are constant, or one class is rarer than the tails: take smaller tails, or other scores"
        )
    if config.estimator == "svc":
        plane = fit_svc(x, top, bottom, config.split, config.regularisation, config.bootstrap, config.seed)
    else:
        # Random choices are made on rows sorted by id (tails are sorted already), whatever the order of the rows.
        order = np.argsort(keys, kind="stable")
        plane = fit_ridge(x, y, top, bottom, order, config.split, config.bootstrap, config.seed)
    length = float(np.linalg.norm(plane.normal))
    if not np.isfinite(length) or length == 0:
        raise DataError(f"attribute {attribute!r}: no plane separates the tails; the latents of both are the same")
    vector, intercept = plane.normal / length, plane.intercept / length
    coordinate = (x @ vector.astype(x.dtype)).astype(np.float64)
    if coordinate[top].mean() < coordinate[bottom].mean():
        vector, intercept, coordinate = -vector, -intercept, -coordinate
    report = {
        "attribute": attribute,
        "estimator": config.estimator,
        "samples": len(y),
        "left_out": left_out,
        "k": k,
        **plane.report,
        "remaining_accuracy": _remaining_accuracy(coordinate + intercept, y, top, bottom),
        "score": {s: float(getattr(y, s)()) for s in ("mean", "std", "min", "max")},
        "config": config.model_dump(mode="json"),
    }
    return Boundary(attribute, vector.astype(np.float32), float(intercept), float(coordinate.std()), report)


def select_tails(scores: np.ndarray, ids: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of the k highest and the k lowest scores, the most extreme first.

    Ids break ties, so the order is total and tails of partitions can be merged: the tails of
    the partitions' tails are the tails of the whole.
    """
    order = np.lexsort((ids, -scores))
    return order[:k], order[::-1][:k]


def _valid(
    latents: np.ndarray,
    scores: np.ndarray,
    ids: Sequence[Any] | np.ndarray | None,
    config: InterFaceGanConfig,
    attribute: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """(latents, scores, ids) of the samples that have a score, and how many have none."""
    x, y = np.asarray(latents), np.asarray(scores, dtype=np.float64)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    keys = np.arange(len(x)) if ids is None else np.asarray(ids)
    if x.ndim != 2 or y.shape != (len(x),) or keys.shape != (len(x),):
        raise DataError(
            f"attribute {attribute!r}: expected latents [N, D] and one score and id per latent, got latents {x.shape}, "
            f"scores {np.asarray(scores).shape}, ids {keys.shape}"
        )
    if len(np.unique(keys)) != len(keys):
        raise DataError(f"attribute {attribute!r}: sample ids are not unique; remove repeated samples")
    unscored = np.isnan(y)
    if unscored.any() and config.missing == "refuse":
        raise DataError(
            f"attribute {attribute!r}: {int(unscored.sum())} of {len(y)} scores are NaN; score them, "
            "or set missing to 'leave out'"
        )
    keep = ~unscored if config.invalid_value is None else ~unscored & (y != config.invalid_value)
    if not np.isfinite(x[keep]).all() or np.isinf(y[keep]).any():
        raise DataError(f"attribute {attribute!r}: latents or scores hold values that are not finite")
    return x[keep], y[keep], keys[keep], int((~keep).sum())


def _remaining_accuracy(decision: np.ndarray, y: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> float | None:
    rest = np.ones(len(y), dtype=bool)
    rest[top] = rest[bottom] = False
    if not rest.any():
        return None
    # The published threshold: the middle of the range, not the median. One outlier moves it.
    positive = y[rest] > (y.max() + y.min()) / 2
    return float(((decision[rest] > 0) == positive).mean())
