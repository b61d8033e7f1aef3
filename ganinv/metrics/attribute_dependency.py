"""Attribute Dependency: what else an edit changes, at equal change of its target (Wu et al. 2021, section 6)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from ganinv.errors import ConfigError, DataError


@dataclass(frozen=True)
class DependencyCurve:
    """Changes at each strength, in standard deviations of the scores; lower at equal ``change`` is better.

    Args:
        change: [S], mean over images of |change of the target|.
        mean_ad, max_ad: [S], mean and maximum over the other attributes of their mean |change|.
        others: the attributes that count. excluded: synonyms of the target, which do not.
    """

    target: str
    change: np.ndarray
    mean_ad: np.ndarray
    max_ad: np.ndarray
    others: tuple[str, ...]
    excluded: tuple[str, ...]

    def at(self, change: float = 1.0) -> tuple[float, float]:
        """(mean-AD, max-AD) where the target changes by this much, between strengths by linear interpolation from no
        edit at all. NaN if the edit does not reach it: nothing is extrapolated."""
        order = np.argsort(self.change, kind="stable")
        x = np.append(0.0, self.change[order])
        if not 0 < change <= x[-1]:
            return float("nan"), float("nan")
        mean, most = (np.interp(change, x, np.append(0.0, y[order])) for y in (self.mean_ad, self.max_ad))
        return float(mean), float(most)


def attribute_dependency(
    before: np.ndarray,
    after: np.ndarray,
    sigma: np.ndarray,
    attributes: Sequence[str],
    target: str,
    exclude: Collection[str] = (),
) -> DependencyCurve:
    """The curve of one edit.

    Args:
        before: scores [N, K] of images. after: [S, N, K] at each strength of the edit.
        sigma: [K], standard deviation of each score over generated images (at least 5,000 make it reliable).
        attributes: K names. target: the one the edit is for. exclude: synonyms of it.

    Raises:
        ConfigError: the target is not among the attributes, or nothing else is. DataError: shapes, or a sigma of 0.
    """
    names = tuple(attributes)
    if unknown := sorted({target, *exclude} - set(names)):
        raise ConfigError(f"no score of {', '.join(unknown)}; there are: {', '.join(names)}")
    if after.ndim != 3 or after.shape[1:] != before.shape or before.shape[1] != len(names) or len(sigma) != len(names):
        raise DataError(
            f"expected scores [N, K] before and [S, N, K] after with K = {len(names)}, got {before.shape}, {after.shape} "
            f"and sigma {np.shape(sigma)}"
        )
    if not (np.asarray(sigma) > 0).all():
        flat = [name for name, s in zip(names, sigma, strict=True) if not s > 0]
        raise DataError(f"the score of {', '.join(flat)} never varies: changes have no measure")
    change = np.abs((after - before) / np.asarray(sigma)).mean(1)
    others = [i for i, name in enumerate(names) if name != target and name not in exclude]
    if not others:
        raise ConfigError(f"{target!r} has no other attributes beside it; dependency needs at least one")
    return DependencyCurve(
        target,
        change[:, names.index(target)],
        change[:, others].mean(1),
        change[:, others].max(1),
        tuple(names[i] for i in others),
        tuple(exclude),
    )
