"""The method ``ganspace``: principal components of W or of features, named by what they move."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Literal

from pydantic import Field

from ganinv.directions.direction import Direction
from ganinv.directions.fitting.activations import ActivationConfig, fit_activations
from ganinv.directions.fitting.context import FitContext
from ganinv.directions.fitting.ganspace import GanSpaceConfig, PrincipalComponents, correlate, fit_ganspace, named
from ganinv.directions.fitting.method import DirectionMethod, Fit
from ganinv.directions.fitting.streams import stream_w
from ganinv.errors import ConfigError, DataError
from ganinv.metrics import Moments


class Components(GanSpaceConfig, DirectionMethod):
    """Components ``pca-00``, ``pca-01``, ...

    Args:
        components: number of components, 0 for none. Fewer than published, since each is edited, rendered and scored to be named.
        layers: W+ rows [start, end) that they move; None is all.
    """

    method: Literal["ganspace"] = "ganspace"
    components: int = Field(default=10, ge=0)
    layers: tuple[int, int] | None = None

    def names(self, context: FitContext) -> list[str]:
        if self.components and context.samples().rows is not None and self.samples is None and self.activations is None:
            raise ConfigError(
                "principal components are of samples of W, and these are inverted images: take none (--components 0), or give "
                "the method ganspace samples of its own (samples: the number)"
            )
        if self.activations is None and self.components > (most := context.generator.w_dim):
            raise ConfigError(
                f"W of this generator has {most} dimensions, so at most {most} components, got {self.components}"
            )
        return [f"pca-{i:02d}" for i in range(self.components)]

    def fit(self, context: FitContext) -> Fit:
        return _ComponentFit(self, context)


class _ComponentFit:
    def __init__(self, config: Components, context: FitContext) -> None:
        self.config, self.context = config, context

    def __call__(self, name: str) -> Direction:
        direction = self._found.direction(
            int(name.removeprefix("pca-")),
            self.context.origin["generator_name"],
            self.context.origin["generator_fingerprint"],
            layers=self.config.layers,
            mode="relative",
            labeller=self.context.origin.get("labeller"),
        )
        return named(direction, self.context)

    @cached_property
    def _found(self) -> PrincipalComponents:
        config, context = self.config, self.context
        if config.activations is not None:
            shape = {"components": config.components, "samples": config.samples or 20_000, "seed": config.seed}
            found = fit_activations(context.generator, ActivationConfig(site=config.activations, **shape))
        elif config.samples is not None:
            found = fit_ganspace(stream_w(context.generator, config.samples, config.seed), config)
        else:
            found = fit_ganspace(self._moments(), config)
        samples = context.samples()
        if samples.rows is not None:
            return found
        correlations = {}
        for name in samples.columns:
            try:
                correlations[name] = correlate(found.components, samples, name)
            except DataError:  # a constant score says nothing of any component
                continue
        return replace(found, correlations=correlations)

    def _moments(self) -> Moments:
        samples = self.context.samples()
        blocks = samples.blocks(next(iter(samples.columns)), latents=True)
        return Moments.merge(Moments.of(block.latents) for block in blocks)
