"""Linear estimators of a separating plane: classifiers of the two tails, and ridge regression of all scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ganinv.directions.fitting.samples import SampleDraws
from ganinv.metrics.moments import Moments

TailEstimator = Literal["svc", "linear-svc", "logistic"]
Estimator = Literal["svc", "linear-svc", "logistic", "ridge"]

RIDGE_STRENGTHS = np.logspace(-5, 1, 13)
"""Candidate penalties, relative to the mean variance of the latents."""


@dataclass(frozen=True)
class Plane:
    """``x . normal + intercept`` is positive on the side of high scores. ``normal``: float64 [D], any length."""

    normal: np.ndarray
    intercept: float
    report: dict[str, Any]


def fit_tails(
    top: np.ndarray,
    bottom: np.ndarray,
    estimator: TailEstimator,
    split: float,
    regularisation: float,
    bootstrap: int,
    seed: int,
) -> Plane:
    """A linear classifier on a random ``split`` of both tails; the rest of them judges it.

    Args:
        top, bottom: latents [k, D] of the tails, in an order that does not depend on the order of the samples.
        estimator: ``svc`` is the published one, ``SVC(kernel="linear")``. ``linear-svc`` (liblinear, squared hinge) and
            ``logistic`` scale to large tails.
        regularisation: C. bootstrap: refits on resampled training rows.
    """
    rng = np.random.default_rng(seed)
    train = max(int(len(top) * split), 1)
    positives, negatives = top[rng.permutation(len(top))], bottom[rng.permutation(len(bottom))]
    rows = np.concatenate([positives[:train], negatives[:train]])
    labels = np.concatenate([np.ones(train), np.zeros(train)])
    fit = _ESTIMATORS[estimator]
    normal, intercept = fit(rows, labels, regularisation)
    accuracy = None
    if train < len(top):
        high, low = (part[train:] @ normal + intercept > 0 for part in (positives, negatives))
        accuracy = float((high.mean() + 1 - low.mean()) / 2)
    refits = []
    for _ in range(bootstrap):
        # Resampled within each class: a bootstrap of small tails may otherwise hold one class only.
        pick = np.concatenate([rng.integers(0, train, train), train + rng.integers(0, train, train)])
        refits.append(fit(rows[pick], labels[pick], regularisation)[0])
    report = {"train_per_tail": train, "validation_accuracy": accuracy, "stability": stability(normal, refits)}
    return Plane(normal, intercept, report)


@dataclass
class RidgeSums:
    """What ridge regression must know of the samples: joint moments of latents and score, of all of them, of a training
    share, of the rest, and of bootstrap resamples. Blocks of samples are added; partitions may be.

    Args:
        split: share that chooses the penalty; the rest judges it.
    """

    split: float
    bootstrap: int
    seed: int
    sums: list[Moments | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sums = self.sums or [None] * (2 + self.bootstrap)

    def add(self, ids: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
        """Latents [n, D] and scores [n] of samples ``ids``."""
        joint = np.column_stack([x, y])
        train = trains(ids, self.split, self.seed)
        parts = [Moments.of(joint[train]), Moments.of(joint[~train])]
        if self.bootstrap:
            weights = SampleDraws(self.seed, "bootstrap").poisson(ids, self.bootstrap)
            parts += [Moments.of(joint, weights=weights[:, i]) for i in range(self.bootstrap)]
        self.sums = [part if known is None else known + part for known, part in zip(self.sums, parts, strict=True)]

    def fit(self, threshold: float) -> tuple[Plane, Plane | None]:
        """(plane, judge): where the predicted score is ``threshold``.

        The penalty is the one that predicts the held-out scores best; the plane is then fitted on all samples. ``judge``
        is the plane of the training share alone, which the held-out samples may judge; None without any.
        """
        train, held_out, *resamples = (part for part in self.sums if part is not None)
        strength, judge = float(RIDGE_STRENGTHS[len(RIDGE_STRENGTHS) // 2]), None
        report: dict[str, Any] = {"train": train.n + held_out.n, "validation_correlation": None}
        if held_out.n > 1 and train.n > 1:
            candidates = ridge(train, RIDGE_STRENGTHS)
            errors = [_squared_error(held_out, normal, offset) for normal, offset in candidates]
            best = int(np.argmin(errors))
            strength = float(RIDGE_STRENGTHS[best])
            report["validation_correlation"] = _correlation(held_out, candidates[best][0])
            judge = Plane(candidates[best][0], candidates[best][1] - threshold, {})
        penalty = np.array([strength])
        normal, offset = ridge(train + held_out, penalty)[0]
        refits = [ridge(resample, penalty)[0][0] for resample in resamples]
        report |= {"penalty": strength, "stability": stability(normal, refits)}
        return Plane(normal, float(offset - threshold), report), judge


def trains(ids: np.ndarray, split: float, seed: int) -> np.ndarray:
    """[n] True for samples of the training share."""
    return SampleDraws(seed, "split").uniform(ids, 1)[:, 0] < split


def ridge(joint: Moments, strengths: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """(normal, offset) for each penalty, from one eigendecomposition of the joint moments of (latents, score)."""
    mean, covariance = joint.mean, joint.covariance
    values, vectors = np.linalg.eigh(covariance[:-1, :-1])
    projected = vectors.T @ covariance[:-1, -1]
    scale = max(values.mean(), np.finfo(np.float64).tiny)
    normals = [vectors @ (projected / (values.clip(min=0) + s * scale)) for s in strengths]
    return [(normal, float(mean[-1] - mean[:-1] @ normal)) for normal in normals]


def stability(normal: np.ndarray, refits: list[np.ndarray]) -> float | None:
    """Mean cosine between the fit and its refits."""
    lengths = [np.linalg.norm(normal) * np.linalg.norm(refit) for refit in refits]
    if not refits or min(lengths) == 0:
        return None
    return float(np.mean([normal @ refit / length for refit, length in zip(refits, lengths, strict=True)]))


def _squared_error(joint: Moments, normal: np.ndarray, offset: float) -> float:
    """Mean of (x . normal + offset - y)^2, from moments of (x, y)."""
    v = np.append(normal, -1.0)
    return float((v @ joint.outer @ v + 2 * offset * (v @ joint.total)) / joint.n + offset**2)


def _correlation(joint: Moments, normal: np.ndarray) -> float | None:
    """Of x . normal with y, from moments of (x, y)."""
    covariance = joint.covariance
    spread = float(normal @ covariance[:-1, :-1] @ normal * covariance[-1, -1])
    return float(normal @ covariance[:-1, -1] / np.sqrt(spread)) if spread > 0 else None


# scikit-learn takes a second to import, and directions are mostly read, not fitted: each estimator imports its own.


def _svc(x: np.ndarray, labels: np.ndarray, regularisation: float) -> tuple[np.ndarray, float]:
    from sklearn.svm import SVC

    return _plane_of(SVC(kernel="linear", C=regularisation).fit(x, labels))


def _linear_svc(x: np.ndarray, labels: np.ndarray, regularisation: float) -> tuple[np.ndarray, float]:
    from sklearn.svm import LinearSVC

    # The primal problem where it is the smaller one, and a seed: the dual solver visits samples in random order.
    model = LinearSVC(C=regularisation, dual="auto", max_iter=20_000, random_state=0)
    return _plane_of(model.fit(x, labels))


def _logistic(x: np.ndarray, labels: np.ndarray, regularisation: float) -> tuple[np.ndarray, float]:
    from sklearn.linear_model import LogisticRegression

    return _plane_of(LogisticRegression(C=regularisation, max_iter=5000).fit(x, labels))


def _plane_of(model: Any) -> tuple[np.ndarray, float]:
    return np.array(model.coef_[0], dtype=np.float64), float(model.intercept_[0])


_ESTIMATORS: dict[str, Callable[[np.ndarray, np.ndarray, float], tuple[np.ndarray, float]]] = {
    "svc": _svc,
    "linear-svc": _linear_svc,
    "logistic": _logistic,
}
