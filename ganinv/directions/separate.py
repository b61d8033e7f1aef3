"""Linear estimators of a separating plane: SVM on the tails, ridge regression on all scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ganinv.metrics.moments import Moments

RIDGE_STRENGTHS = np.logspace(-5, 1, 13)
"""Candidate penalties, relative to the mean variance of the latents."""


@dataclass(frozen=True)
class Plane:
    """``x . normal + intercept`` is positive on the side of high scores. ``normal``: float64 [D], any length."""

    normal: np.ndarray
    intercept: float
    report: dict[str, Any]


def fit_svc(
    x: np.ndarray, top: np.ndarray, bottom: np.ndarray, split: float, regularisation: float, bootstrap: int, seed: int
) -> Plane:
    """The published estimator: ``SVC(kernel="linear")`` on a random ``split`` of both tails.

    Args:
        x: latents [N, D]. top, bottom: rows of the tails, in an order that does not depend on the order of x.
        regularisation: C. bootstrap: refits on resampled training rows.
    """
    rng = np.random.default_rng(seed)
    train = max(int(len(top) * split), 1)
    positives, negatives = rng.permutation(top), rng.permutation(bottom)
    rows = np.concatenate([positives[:train], negatives[:train]])
    held_out = np.concatenate([positives[train:], negatives[train:]])
    labels = np.concatenate([np.ones(train), np.zeros(train)])
    normal, intercept = _svc(x[rows], labels, regularisation)
    accuracy = None
    if len(held_out):
        correct = (x[held_out] @ normal + intercept > 0) == np.isin(held_out, top)
        accuracy = float(correct.mean())
    refits = []
    for _ in range(bootstrap):
        # Resampled within each class: a bootstrap of small tails may otherwise hold one class only.
        pick = np.concatenate([rng.integers(0, train, train), train + rng.integers(0, train, train)])
        refits.append(_svc(x[rows[pick]], labels[pick], regularisation)[0])
    report = {"train_per_tail": train, "validation_accuracy": accuracy, "stability": _stability(normal, refits)}
    return Plane(normal, intercept, report)


def fit_ridge(
    x: np.ndarray,
    y: np.ndarray,
    top: np.ndarray,
    bottom: np.ndarray,
    order: np.ndarray,
    split: float,
    bootstrap: int,
    seed: int,
) -> Plane:
    """Ridge regression of all scores. A random ``split`` chooses the penalty and is judged on the rest.

    The final fit uses all rows. The plane is where the predicted score is half-way between the mean scores of the two
    tails.

    Args:
        x: latents [N, D]. y: scores [N]. top, bottom: rows of the tails. order: all rows, in an order that does not
            depend on the order of x. bootstrap: refits on resampled rows.
    """
    rng = np.random.default_rng(seed)
    rows = rng.permutation(order)
    train = max(int(len(rows) * split), 2)
    held_out = rows[train:]
    threshold = (y[top].mean() + y[bottom].mean()) / 2
    report: dict[str, Any] = {"train": len(rows), "validation_accuracy": None, "validation_correlation": None}
    strength = float(RIDGE_STRENGTHS[len(RIDGE_STRENGTHS) // 2])
    if len(held_out) > 1:
        candidates = _ridge(x, y, rows[:train], RIDGE_STRENGTHS)
        predictions = [x[held_out] @ normal + offset for normal, offset in candidates]
        best = int(np.argmin([((predicted - y[held_out]) ** 2).mean() for predicted in predictions]))
        strength, predicted = float(RIDGE_STRENGTHS[best]), predictions[best]
        is_top = np.isin(held_out, top)
        tails = is_top | np.isin(held_out, bottom)
        if tails.any():
            report["validation_accuracy"] = float(((predicted > threshold) == is_top)[tails].mean())
        if predicted.std() > 0 and y[held_out].std() > 0:
            report["validation_correlation"] = float(np.corrcoef(predicted, y[held_out])[0, 1])
    penalty = np.array([strength])
    normal, offset = _ridge(x, y, rows, penalty)[0]
    refits = [_ridge(x, y, rows[rng.integers(0, len(rows), len(rows))], penalty)[0][0] for _ in range(bootstrap)]
    report |= {"penalty": strength, "stability": _stability(normal, refits)}
    return Plane(normal, float(offset - threshold), report)


def _svc(x: np.ndarray, labels: np.ndarray, regularisation: float) -> tuple[np.ndarray, float]:
    # Imported here: scikit-learn takes a second to import, and directions are mostly read, not fitted.
    from sklearn.svm import SVC

    model = SVC(kernel="linear", C=regularisation).fit(x, labels)
    return np.array(model.coef_[0], dtype=np.float64), float(model.intercept_[0])


def _ridge(x: np.ndarray, y: np.ndarray, rows: np.ndarray, strengths: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """(normal, offset) for each penalty, from one eigendecomposition. Reads rows in blocks: x may be large."""
    blocks = np.array_split(rows, -(-len(rows) // 8192))
    joint = Moments.merge(Moments.of(np.column_stack([x[block], y[block]])) for block in blocks)
    mean, covariance = joint.mean, joint.covariance
    values, vectors = np.linalg.eigh(covariance[:-1, :-1])
    projected = vectors.T @ covariance[:-1, -1]
    scale = max(values.mean(), np.finfo(np.float64).tiny)
    normals = [vectors @ (projected / (values.clip(min=0) + s * scale)) for s in strengths]
    return [(normal, float(mean[-1] - mean[:-1] @ normal)) for normal in normals]


def _stability(normal: np.ndarray, refits: list[np.ndarray]) -> float | None:
    """Mean cosine between the fit and its refits."""
    lengths = [np.linalg.norm(normal) * np.linalg.norm(refit) for refit in refits]
    if not refits or min(lengths) == 0:
        return None
    return float(np.mean([normal @ refit / length for refit, length in zip(refits, lengths, strict=True)]))
