"""The method ``interfacegan``: a boundary per attribute, others projected out of it, in Z, W or W+."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Literal

import numpy as np
from pydantic import Field

from ganinv.directions.direction import Direction
from ganinv.directions.fitting.classifier_gradient import image_scores, mean_gradients
from ganinv.directions.fitting.context import FitContext
from ganinv.directions.fitting.interfacegan import Boundary, fit_boundary
from ganinv.directions.fitting.interfacegan_config import InterFaceGanConfig
from ganinv.directions.fitting.method import DirectionMethod, Fit
from ganinv.directions.fitting.projection import project_out
from ganinv.directions.fitting.samples import LatentSpace
from ganinv.errors import ConfigError


class Boundaries(InterFaceGanConfig, DirectionMethod):
    """One direction per attribute: the normal of its boundary.

    Args:
        space: that boundaries are fitted in. ``w+`` needs inverted images.
        conditions: attribute -> attributes to project out of its boundary (Gram solve).
        conditions_by: what represents a condition: ``boundary``, the normal of its own boundary, as published; or
            ``gradient``, the mean gradient of its score (log-odds of a probability) over fresh samples, summed over the rows
            that the direction moves. If scores are correlated, the first may leave the side effect, or reverse
            it; the second keeps the mean score constant to first order. It needs the labeller's gradients, and ``space`` w
            or w+.
        gradient_samples: over how many fresh samples that mean is taken.
        layers: attribute -> W+ rows [start, end) that its direction moves; all rows for other attributes.
    """

    method: Literal["interfacegan"] = "interfacegan"
    space: LatentSpace = "w"
    conditions: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    conditions_by: Literal["boundary", "gradient"] = "boundary"
    gradient_samples: int = Field(default=64, ge=1)
    layers: Mapping[str, tuple[int, int]] = Field(default_factory=dict)

    def names(self, context: FitContext) -> list[str]:
        if self.conditions and self.conditions_by == "gradient" and self.space == "z":
            raise ConfigError(
                "conditions_by: gradient holds scores still in W; take space w, or conditions_by: boundary"
            )
        context.scored([*self.conditions, *self.layers, *(c for cs in self.conditions.values() for c in cs)])
        context.samples(self.space)  # refuses a space that these samples have no latents in
        return context.attributes

    def fit(self, context: FitContext) -> Fit:
        return _BoundaryFit(self, context)


class _BoundaryFit:
    def __init__(self, config: Boundaries, context: FitContext) -> None:
        self.config, self.context = config, context
        self.samples = context.samples(config.space)
        self._fitted: dict[str, Boundary] = {}

    def __call__(self, attribute: str) -> Direction:
        config, context = self.config, self.context
        direction = self._boundary(attribute).direction(
            context.origin["generator_name"],
            context.origin["generator_fingerprint"],
            positive_means=context.meaning(attribute),
            labeller=context.origin.get("labeller"),
            layers=config.layers.get(attribute),
            space=config.space,
            rows=self.samples.rows if config.space == "w+" else None,
        )
        if conditions := config.conditions.get(attribute):
            held = np.stack([self._held(condition, direction) for condition in conditions])
            direction.report.update(conditions=list(conditions), conditions_by=config.conditions_by)
            rest = project_out(direction.vector.reshape(-1), held)
            direction = direction.with_vector(rest.reshape(direction.vector.shape))
        return context.calibrated(direction, attribute)

    def _boundary(self, attribute: str) -> Boundary:
        """The boundary of an attribute, fitted once however many directions are conditioned on it."""
        if attribute not in self._fitted:
            self._fitted[attribute] = fit_boundary(self.samples, self.config, attribute=attribute)
        return self._fitted[attribute]

    def _held(self, condition: str, direction: Direction) -> np.ndarray:
        """What the direction is to be orthogonal to, flat as its own vector."""
        if self.config.conditions_by == "boundary":
            return self._boundary(condition).vector
        gradient = self._gradients[condition]
        if direction.space == "w+":
            return gradient.reshape(-1)
        start, end = direction.layers or (0, len(gradient))
        return gradient[start:end].sum(0)  # one step on several rows

    @cached_property
    def _gradients(self) -> dict[str, np.ndarray]:
        context = self.context
        names = sorted({c for cs in self.config.conditions.values() for c in cs})
        for name in names:
            context.has_gradient(name)
        start = context.fresh(self.config.gradient_samples)
        return mean_gradients(image_scores(context.generator, context.labeller), start.w, names)
