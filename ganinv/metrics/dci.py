"""Disentanglement, completeness and informativeness of a latent code (Eastwood and Williams 2018, as StyleSpace uses them).

For each attribute a gradient-boosted classifier tells samples with high scores from samples with low ones by their codes;
the importances of the code's dimensions are a column of the matrix R [D, K]. A dimension that serves one attribute only is
disentangled, an attribute that needs one dimension only is completely represented.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from ganinv.config import StrictModel
from ganinv.errors import DataError

TINY = 1e-11


class DciConfig(StrictModel):
    """Published: codes of 100,000 samples, not truncated; tails of 2 %."""

    tails: float = Field(default=0.02, gt=0, le=0.5)
    """Share of the samples, at each end of a score, that is classified."""
    balance: float = Field(default=0.05, ge=0, lt=0.5)
    """An attribute is used when more than this share of the scores lies on each side of ``threshold``."""
    threshold: float = 0.0
    train: float = Field(default=0.5, gt=0, lt=1)
    """Share of both tails together that trains; the rest gives the informativeness."""
    seed: int = 0


@dataclass(frozen=True)
class Dci:
    """The three numbers and what they come from.

    Args:
        importance: R, [D, K]. accuracy: [K], on held-out samples.
        by_dimension: disentanglement of each dimension [D]. by_attribute: completeness of each attribute [K].
        left_out: attributes whose scores lie nearly all on one side.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    attributes: tuple[str, ...]
    importance: np.ndarray
    accuracy: np.ndarray
    by_dimension: np.ndarray
    by_attribute: np.ndarray
    left_out: tuple[str, ...]


def dci(codes: np.ndarray, scores: Mapping[str, np.ndarray], config: DciConfig | None = None) -> Dci:
    """DCI of codes [N, D] for attributes with scores [N].

    Completeness has log base D: compare spaces of different size with care.

    Raises:
        DataError: fewer than two attributes that can be used, or tails that are too small to split.
    """
    config = config or DciConfig()
    codes = np.asarray(codes)
    used = [name for name, values in scores.items() if _balanced(codes, name, values, config)]
    left_out = tuple(name for name in scores if name not in used)
    if len(used) < 2:
        raise DataError(
            f"DCI needs at least two attributes with more than {config.balance:.0%} of the scores on each side of "
            f"{config.threshold:g}, got {used}; left out: {', '.join(left_out) or 'none'}"
        )
    columns, accuracy = zip(*(_classify(codes, np.asarray(scores[n]), n, config) for n in used), strict=True)
    importance = np.abs(np.stack(columns, 1))
    disentanglement, by_dimension = _one_minus_entropy(importance)
    completeness, by_attribute = _one_minus_entropy(importance.T)
    return Dci(
        disentanglement,
        completeness,
        float(np.mean(accuracy)),
        tuple(used),
        importance,
        np.array(accuracy),
        by_dimension,
        by_attribute,
        left_out,
    )


def _balanced(codes: np.ndarray, name: str, values: np.ndarray, config: DciConfig) -> bool:
    y = np.asarray(values, dtype=np.float64)
    if codes.ndim != 2 or y.shape != (len(codes),) or not np.isfinite(y).all():
        raise DataError(
            f"DCI needs codes [N, D] and a finite score of {name!r} for each, got codes {codes.shape}, scores {y.shape} "
            f"with {int((~np.isfinite(y)).sum())} that are not finite"
        )
    above = float((y > config.threshold).mean())
    return config.balance < above < 1 - config.balance


def _classify(codes: np.ndarray, y: np.ndarray, name: str, config: DciConfig) -> tuple[np.ndarray, float]:
    """(importances [D], held-out accuracy) of one attribute."""
    from sklearn.ensemble import GradientBoostingClassifier

    k = int(len(y) * config.tails)
    train = int(2 * k * config.train)
    if k < 5:
        raise DataError(
            f"DCI of {name!r}: tails of {config.tails:.1%} of {len(y)} samples have {k}, at least 5 are needed"
        )
    order = np.argsort(y, kind="stable")
    rows, labels = np.concatenate([order[:k], order[-k:]]), np.repeat([0, 1], k)
    shuffle = np.random.default_rng(config.seed).permutation(2 * k)
    rows, labels = rows[shuffle], labels[shuffle]
    model = GradientBoostingClassifier(random_state=config.seed).fit(codes[rows[:train]], labels[:train])
    return model.feature_importances_, float(model.score(codes[rows[train:]], labels[train:]))


def _one_minus_entropy(importance: np.ndarray) -> tuple[float, np.ndarray]:
    """(mean weighted by importance, one value per row) of 1 - entropy of each row, in the base of its length."""
    total = importance.sum(1, keepdims=True)
    share = importance / (total + TINY)
    values = 1 + (share * np.log(share + TINY)).sum(1) / np.log(importance.shape[1])
    weight = total[:, 0] / max(importance.sum(), TINY)
    return float((values * weight).sum()), values
