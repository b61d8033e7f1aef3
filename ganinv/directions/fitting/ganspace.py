"""GANSpace: principal components of samples of W (Harkonen et al. 2020, section 2.1).

W has few dimensions, so its covariance is accumulated and decomposed exactly. Sums over shards add up, in any
partition; the published incremental PCA approximates the same thing and depends on its batch size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import Field

from ganinv.config import StrictModel
from ganinv.directions.direction import Direction, Mode
from ganinv.directions.fitting.context import FitContext
from ganinv.directions.fitting.samples import ArraySamples, Samples
from ganinv.errors import ConfigError, DataError
from ganinv.metrics.moments import Moments

SIGN_RULE = "largest absolute entry positive"


class GanSpaceConfig(StrictModel):
    """How many components to keep, of how many samples. Published: 80, of 1,000,000."""

    components: int = Field(default=80, ge=1)
    samples: int | None = Field(default=None, ge=2)
    """Draw this many samples of W for the fit, in batches; None uses the given ones."""
    seed: int = 0
    activations: str | None = None
    """Use components of the features at this site (``act[2]``), regressed to W, instead of components of W."""


@dataclass(frozen=True)
class PrincipalComponents:
    """A PCA of W.

    Args:
        mean: float32 [D]. components: float32 [C, D], orthonormal rows, largest variance first.
        sigma: float32 [C], standard deviation of W along each component.
        variance_ratio: float32 [C], share of the total variance.
        samples: number of latents it was fitted on.
        correlations: attribute -> [C]: correlation of its score with the coordinate along each component.
        source: what the components are of: ``w``, or the features of a layer, regressed to W.
    """

    mean: np.ndarray
    components: np.ndarray
    sigma: np.ndarray
    variance_ratio: np.ndarray
    samples: int
    correlations: dict[str, list[float]]
    source: str = "w"

    def __len__(self) -> int:
        return len(self.components)

    def direction(
        self,
        index: int,
        generator_name: str,
        generator_fingerprint: str,
        *,
        name: str | None = None,
        layers: tuple[int, int] | None = None,
        mode: Mode = "absolute",
        positive_means: str = "",
        labeller: str | None = None,
    ) -> Direction:
        """One component as a direction of W, ``pca-00`` and so on; one step is one standard deviation.

        Args:
            layers: rows [start, end) it moves, end exclusive (the paper's E(v, 0-3) is ``(0, 4)``).
            labeller: whose scores ``correlations`` are of.

        Raises:
            ConfigError: no such component.
        """
        if not 0 <= index < len(self):
            raise ConfigError(f"component must be 0 .. {len(self) - 1}, got {index}; fit more components to have it")
        if self.sigma[index] <= 0:
            raise ConfigError(f"component {index} has no variance: the samples do not vary along it")
        report: dict[str, Any] = {
            "component": index,
            "samples": self.samples,
            "sigma": float(self.sigma[index]),
            "variance_ratio": float(self.variance_ratio[index]),
            "sign_rule": SIGN_RULE,
            "source": self.source,
        }
        if self.correlations:
            report["correlations"] = {key: values[index] for key, values in self.correlations.items()}
        return Direction(
            name=name or f"pca-{index:02d}",
            vector=self.components[index],
            space="w",
            generator_name=generator_name,
            generator_fingerprint=generator_fingerprint,
            method="ganspace",
            layers=layers,
            unit=float(self.sigma[index]),
            mode=mode,
            positive_means=positive_means,
            mean=self.mean,
            labeller=labeller,
            report=report,
        )


def fit_ganspace(
    latents: np.ndarray | Moments | Iterable[np.ndarray],
    config: GanSpaceConfig | None = None,
    scores: Mapping[str, np.ndarray] | None = None,
) -> PrincipalComponents:
    """Principal components of W.

    Args:
        latents: [N, D], or shards of it [n_i, D], or the merged ``Moments`` of shards. Not truncated.
        scores: attribute -> [N], to report what each component does; needs ``latents`` as one array. NaN is left out.

    Raises:
        DataError: too few samples, or scores that do not fit the latents.
    """
    config = config or GanSpaceConfig()
    if isinstance(latents, Moments):
        moments = latents
    elif isinstance(latents, np.ndarray):
        moments = Moments.of(latents)
    else:
        moments = Moments.merge(Moments.of(part) for part in latents)
    dimensions, count = len(moments.total), config.components
    if count > min(dimensions, moments.n - 1):
        raise DataError(
            f"{count} components need at least as many dimensions and more samples, got {moments.n} samples of "
            f"{dimensions} dimensions; ask for fewer components or sample more"
        )
    covariance = moments.covariance
    values, vectors = np.linalg.eigh(covariance)
    values, components = values[::-1][:count].clip(min=0), vectors.T[::-1][:count]
    components = signed(components)
    total = float(np.trace(covariance))
    if total <= 0:
        raise DataError(f"all {moments.n} samples are equal; there is no direction in which they vary")
    return PrincipalComponents(
        mean=moments.mean.astype(np.float32),
        components=components.astype(np.float32),
        sigma=np.sqrt(values).astype(np.float32),
        variance_ratio=(values / total).astype(np.float32),
        samples=moments.n,
        correlations=_correlations(latents, components, scores) if scores else {},
    )


def signed(components: np.ndarray) -> np.ndarray:
    """Rows [C, D] with the sign that makes their largest absolute entry positive.

    The sign of an eigenvector is arbitrary; without a rule it would differ between two machines.
    """
    largest = np.take_along_axis(components, np.abs(components).argmax(1)[:, None], axis=1)
    return components * np.where(largest < 0, -1.0, 1.0)


def named_by(direction: Direction, moves: Mapping[str, float], least: float = 0.25) -> Direction:
    """The direction with what it does as its meaning: ``age +0.81, gender -0.40``.

    Args:
        moves: attribute -> change of its score per step, in standard deviations, as measured by rendering; kept in
            ``report["moves"]``.
        least: smaller changes are not named.
    """
    strong = sorted((name for name, change in moves.items() if abs(change) >= least), key=lambda n: -abs(moves[n]))
    words = ", ".join(f"{name} {moves[name]:+.2f}" for name in strong) or "none of the measured attributes"
    report = {**direction.report, "moves": {name: float(change) for name, change in moves.items()}}
    return replace(direction, positive_means=words, report=report)


def named(direction: Direction, context: FitContext) -> Direction:
    """A direction found without labels, named by its measured effect, if that can be measured."""
    if not context.can_measure():
        return direction
    effects = context.measured(direction, (-2.0, 2.0))
    return named_by(direction, dict(zip(effects.attributes, effects.slope().tolist(), strict=True)))


def correlate(components: np.ndarray, samples: Samples, attribute: str) -> list[float]:
    """Correlation of an attribute's score with the coordinate along each component [C, D], over streamed samples.

    Samples without a score (NaN) are left out.

    Raises:
        DataError: a score that is constant or missing.
    """
    joint: Moments | None = None
    for block in samples.blocks(attribute, latents=True):
        valid = np.isfinite(block.scores)
        coordinates = block.latents[valid].astype(np.float64) @ components.T.astype(np.float64)
        part = Moments.of(np.column_stack([coordinates, block.scores[valid]]))
        joint = part if joint is None else joint + part
    if joint is None or joint.n < 2 or joint.covariance[-1, -1] <= 0:
        raise DataError(f"score {attribute!r} is constant or missing: it correlates with nothing; leave it out")
    covariance = joint.covariance
    scale = np.sqrt(np.diag(covariance)[:-1].clip(min=0) * covariance[-1, -1])
    found = np.divide(covariance[:-1, -1], scale, out=np.zeros(len(components)), where=scale > 0)
    return [float(value) for value in found]


def _correlations(latents: object, components: np.ndarray, scores: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    if not isinstance(latents, np.ndarray):
        raise DataError("correlations with scores need the latents as one array [N, D] in the order of the scores")
    for name, values in scores.items():
        if np.shape(values) != (len(latents),):
            raise DataError(
                f"score {name!r} must have shape ({len(latents)},), one for each latent, got {np.shape(values)}"
            )
    samples = ArraySamples(latents, scores)
    return {name: correlate(components, samples, name) for name in scores}
