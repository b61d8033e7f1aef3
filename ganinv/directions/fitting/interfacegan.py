"""InterFaceGAN: the normal of the hyperplane that separates samples with an attribute from those without.

Shen et al. 2020 (CVPR), section 2.2, and the published code's recipe: sort by score, take both tails, split them, fit a
linear SVM, report the accuracy on held-out tails and on all remaining samples. Where scores are continuous, ridge
regression on all of them uses far more of the information and is the better estimator in W, whose covariance is far
from isotropic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ganinv.directions.direction import Direction, Mode, Space
from ganinv.directions.fitting.interfacegan_config import InterFaceGanConfig
from ganinv.directions.fitting.passes import FitData, choose_tails, judge_plane, read_fit_data, summarise_scores
from ganinv.directions.fitting.projection import project_out
from ganinv.directions.fitting.samples import ArraySamples, Samples
from ganinv.directions.fitting.separate import Plane, fit_tails, trains
from ganinv.directions.fitting.tails import Tails, select_tails
from ganinv.errors import DataError

__all__ = ["Boundary", "InterFaceGanConfig", "fit_boundary", "fit_interfacegan", "project_out", "select_tails"]


@dataclass(frozen=True)
class Boundary:
    """A fitted separating plane ``x . vector + intercept = 0``.

    Args:
        vector: float32 [D], norm 1, towards higher scores.
        unit: standard deviation of the samples' coordinate along the vector.
        report: see ``fit_boundary``.
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
        space: Space = "w",
        rows: int | None = None,
    ) -> Direction:
        """The boundary's normal as a direction, named after the attribute unless told otherwise.

        Args:
            space: of the latents it was fitted on. rows: of W+ codes that were fitted flat; the norm is 1 over all rows.
        """
        return Direction(
            name=name or self.attribute,
            vector=self.vector if rows is None else self.vector.reshape(rows, -1),
            space=space,
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
    """``fit_boundary`` on arrays.

    Args:
        latents: [N, D] in Z or W, or [N, L, D] in W+, which is fitted flat. scores: [N] or [N, 1], any monotone score.
        attribute: named in errors and in the report.
        ids: [N], unique: they break ties between equal scores. Row numbers by default.
    """
    x = np.asarray(latents)
    x = x.reshape(len(x), -1) if x.ndim == 3 else x
    return fit_boundary(ArraySamples(x, {attribute: scores}, ids), config, attribute=attribute)


def fit_boundary(samples: Samples, config: InterFaceGanConfig | None = None, *, attribute: str) -> Boundary:
    """Fit the boundary of one attribute. The result depends on neither the order nor the partition of the samples.

    The samples are read a block at a time, four times: to look at the scores, to choose the tails, to fit, to judge. In
    memory are the latents of the tails, and for ridge some matrices of D x D.

    Returns:
        The boundary. Its report: ``attribute``, ``estimator``, ``samples``, ``left_out``, ``k`` (size of each tail),
        ``train_per_tail`` (classifiers) or ``train`` (ridge), ``validation_accuracy`` (held-out tails; None when
        ``split`` holds none out), ``remaining_accuracy`` (samples outside the tails, labelled by the mid-range of all
        scores as published; None when there are none), ``stability`` (mean cosine of bootstrap refits; None without),
        ``score`` statistics, ``config``.

    Raises:
        DataError: shapes that do not fit, or degenerate scores; names the attribute.
    """
    config = config or InterFaceGanConfig()
    look = summarise_scores(samples, config, attribute)
    k = int(config.tails if config.tails > 1 else look.n * config.tails)
    k = min(k, look.n // 2)
    if k < config.minimum:
        raise DataError(
            f"attribute {attribute!r}: {look.n} valid samples with tails={config.tails} give {k} samples per class, "
            f"at least {config.minimum} are needed; sample more, or take larger tails"
        )
    tails = choose_tails(samples, config, attribute, k)
    gathered = read_fit_data(samples, config, attribute, tails)
    plane, judge = _plane(gathered, config, tails)
    length = float(np.linalg.norm(plane.normal))
    if not np.isfinite(length) or length == 0:
        raise DataError(f"attribute {attribute!r}: no plane separates the tails; the latents of both are the same")
    vector, intercept = plane.normal / length, plane.intercept / length
    if (gathered.top @ vector).mean() < (gathered.bottom @ vector).mean():
        vector, intercept = -vector, -intercept
    along = judge_plane(samples, config, attribute, tails, vector, intercept, look)
    report = {
        "attribute": attribute,
        "estimator": config.estimator,
        "samples": look.n,
        "left_out": look.left_out,
        "k": k,
        **plane.report,
        "remaining_accuracy": along.remaining_accuracy,
        "score": {"mean": look.spread.mean, "std": look.spread.std, "min": look.low, "max": look.high},
        "config": config.model_dump(mode="json"),
    }
    if config.estimator == "ridge":
        report["validation_accuracy"] = _held_out_accuracy(gathered, tails, judge, config)
    return Boundary(attribute, vector.astype(np.float32), float(intercept), along.std, report)


def _plane(gathered: FitData, config: InterFaceGanConfig, tails: Tails) -> tuple[Plane, Plane | None]:
    if config.estimator == "ridge":
        assert gathered.ridge is not None
        return gathered.ridge.fit((tails.top[0].mean() + tails.bottom[0].mean()) / 2)
    plane = fit_tails(
        gathered.top,
        gathered.bottom,
        config.estimator,
        config.split,
        config.regularisation,
        config.bootstrap,
        config.seed,
    )
    return plane, None


def _held_out_accuracy(
    gathered: FitData, tails: Tails, judge: Plane | None, config: InterFaceGanConfig
) -> float | None:
    """Of the training share's plane on those samples of the tails that it has not seen."""
    if judge is None:
        return None
    right: list[np.ndarray] = []
    for (_, ids), x, sign in ((tails.top, gathered.top, 1), (tails.bottom, gathered.bottom, -1)):
        decision = x[~trains(ids, config.split, config.seed)] @ judge.normal + judge.intercept
        right.append(sign * decision > 0)
    together = np.concatenate(right)
    return float(together.mean()) if len(together) else None
