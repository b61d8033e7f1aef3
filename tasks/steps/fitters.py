"""The methods that ``fit`` can be told to use: each makes named directions of the same labelled samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from ganinv.directions.direction import Direction
from ganinv.directions.fitting.activations import ActivationConfig, fit_activations
from ganinv.directions.fitting.classifier_gradient import fit_classifier_gradient, image_scores, mean_gradients
from ganinv.directions.fitting.ganspace import PrincipalComponents, correlate, fit_ganspace
from ganinv.directions.fitting.interfacegan import Boundary, fit_boundary
from ganinv.directions.fitting.projection import project_out
from ganinv.directions.fitting.screening import Screening, screen_channels
from ganinv.directions.fitting.sefa import Factors, fit_sefa
from ganinv.directions.fitting.streams import stream_w
from ganinv.directions.fitting.stylespace import Channel, attribute_channels, channel_direction, choose_positives
from ganinv.directions.measuring.calibration import calibrated_by
from ganinv.directions.styles import StyleLayout, StyleStatistics, styles_of
from ganinv.errors import ConfigError, DataError
from ganinv.metrics import Moments, attribute_dependency
from ganinv.store import Store
from tasks.steps.fit_context import FitContext

if TYPE_CHECKING:
    from tasks.steps.fit import FitJob


class Fitter(FitContext):
    """One method per kind of direction."""

    def __init__(self, job: FitJob, store: Store) -> None:
        super().__init__(job, store)
        self._planes: dict[str, Boundary] = {}

    def names(self) -> list[str]:
        """What this job makes, in order."""
        job = self.job
        attributes = list(job.attributes or self.samples.attributes)
        asked = [*attributes, *job.conditions, *job.layers, *(c for cs in job.conditions.values() for c in cs)]
        for name in asked:
            if name not in self.samples.attributes:
                known = ", ".join(self.samples.attributes)
                raise ConfigError(f"samples {job.samples!r} have no score of {name!r}; there are: {known}")
        if job.conditions and job.conditions_by == "gradient" and job.space == "z":
            raise ConfigError(
                "conditions_by: gradient holds scores still in W; take space w, or conditions_by: boundary"
            )
        components = [f"pca-{i:02d}" for i in range(job.components)]
        return {
            "interfacegan": attributes + components,
            "ganspace": components,
            "stylespace": attributes,
            "sefa": [f"sefa-{i:02d}" for i in range(job.sefa.components)],
            "classifier-gradient": attributes,
        }[job.method]

    def fit(self, name: str) -> Direction:
        """One of ``names``.

        Raises:
            DataError: it cannot be fitted; the others may be.
        """
        methods: Mapping[str, Callable[[str], Direction]] = {
            "interfacegan": self._component if name.startswith("pca-") else self._boundary,
            "ganspace": self._component,
            "stylespace": self._channel,
            "sefa": self._factor,
            "classifier-gradient": self._gradient,
        }
        direction = methods[self.job.method](name)
        direction.report["labels"] = {
            "labeller": self.origin.get("labeller"),
            "sha256": self.origin.get("labeller_sha256"),
            "column": self.samples.columns.get(name),
        }
        return replace(direction, name=f"{self.job.prefix}{direction.name}")

    def _boundary(self, attribute: str) -> Direction:
        direction = self._plane(attribute).direction(
            self.origin["generator_name"],
            self.origin["generator_fingerprint"],
            positive_means=self.meaning(attribute),
            labeller=self.origin.get("labeller"),
            layers=self.job.layers.get(attribute),
            space=self.job.space,
            rows=self.samples.rows if self.job.space == "w+" else None,
        )
        conditions = self.job.conditions.get(attribute)
        if conditions:
            held = np.stack([self._held(condition, direction) for condition in conditions])
            direction.report.update(conditions=list(conditions), conditions_by=self.job.conditions_by)
            rest = project_out(direction.vector.reshape(-1), held)
            direction = direction.with_vector(rest.reshape(direction.vector.shape))
        return self.calibrated(direction, attribute)

    def _plane(self, attribute: str) -> Boundary:
        """The boundary of an attribute, fitted once however many directions are conditioned on it."""
        if attribute not in self._planes:
            self._planes[attribute] = fit_boundary(self.samples, self.job.interfacegan, attribute=attribute)
        return self._planes[attribute]

    def _held(self, condition: str, direction: Direction) -> np.ndarray:
        """What the direction is to be orthogonal to, flat as its own vector."""
        if self.job.conditions_by == "boundary":
            return self._plane(condition).vector
        gradient = self._condition_gradients[condition]
        if direction.space == "w+":
            return gradient.reshape(-1)
        start, end = direction.layers or (0, len(gradient))
        return gradient[start:end].sum(0)  # one step on several rows

    @cached_property
    def _condition_gradients(self) -> dict[str, np.ndarray]:
        names = sorted({c for cs in self.job.conditions.values() for c in cs})
        for name in names:
            self._has_gradient(name)
        start = self.fresh(self.job.gradient.samples)
        return mean_gradients(image_scores(self.generator, self.labeller), start.w, names)

    def _has_gradient(self, attribute: str) -> None:
        if attribute not in self.labeller.attributes:
            raise DataError(
                f"attribute {attribute!r}: labeller {self.labeller.identity} has no such score to take gradients of; "
                f"it has {', '.join(self.labeller.attributes)}"
            )

    def _component(self, name: str) -> Direction:
        direction = self._components.direction(
            int(name.removeprefix("pca-")),
            self.origin["generator_name"],
            self.origin["generator_fingerprint"],
            layers=self.job.component_layers,
            mode="relative",
            labeller=self.origin.get("labeller"),
        )
        return self.named(direction)

    def _factor(self, name: str) -> Direction:
        return self.named(self._factors.direction(int(name.removeprefix("sefa-")), self.generator))

    def _gradient(self, attribute: str) -> Direction:
        self._has_gradient(attribute)
        config = self.job.gradient
        if attribute in self.job.layers:
            config = config.model_copy(update={"rows": self.job.layers[attribute]})
        start = self.fresh(config.samples)
        direction = fit_classifier_gradient(
            image_scores(self.generator, self.labeller),
            start.w,
            attribute,
            self.generator,
            config,
            positive_means=self.meaning(attribute),
            labeller=self.labeller.identity,
        )
        return self.calibrated(direction, attribute)

    def _channel(self, attribute: str) -> Direction:
        """The best of some candidate channels: by what else its edit changes."""
        config = self.job.stylespace
        if config.ranking == "gradient" and self.can_measure(attribute):
            chosen = self._screening.best(attribute, config.channels, torgb=config.torgb)
            found = [
                (i, self._screening.sign(attribute, i), {"ratio": self._screening.ratio(attribute)[i]}) for i in chosen
            ]
        else:
            channels = self._common_channels(attribute)
            found = [(c.index, c.difference, {"theta": c.theta, "difference": c.difference}) for c in channels]
        candidates = [
            channel_direction(
                self._layout,
                index,
                float(self._style_statistics.std[index]),
                self.origin["generator_name"],
                self.origin["generator_fingerprint"],
                name=attribute,
                sign=sign,
                positive_means=self.meaning(attribute),
                labeller=self.origin.get("labeller"),
                report={"attribute": attribute, "ranking": config.ranking, **{k: float(v) for k, v in why.items()}},
            )
            for index, sign, why in found
        ]
        if not candidates:
            raise DataError(f"attribute {attribute!r}: no channel of S has anything to do with it")
        if not self.can_measure(attribute):
            return candidates[0]
        measured = [self._channel_measured(candidate, attribute) for candidate in candidates]
        best = min(measured, key=_other_changes)
        if not best.report["dependency"]["rises"]:
            raise DataError(
                f"attribute {attribute!r}: none of {len(measured)} candidate channels raises its score; take more channels, "
                "more positives, or ranking: gradient"
            )
        kept = ("layer", "channel", "theta", "ratio", "dependency")
        best.report["candidates"] = [{k: each.report[k] for k in kept if k in each.report} for each in measured]
        return best

    def _common_channels(self, attribute: str) -> list[Channel]:
        """What a few positives have in common."""
        config = self.job.stylespace
        ids, scores = self.column(attribute)
        rows = choose_positives(scores, ids, config, attribute)
        w = torch.from_numpy(self.samples.of_ids(ids[rows].tolist())).to(self.generator.device)
        positives = styles_of(self.generator, self.all_rows(w)).cpu().numpy()
        return attribute_channels(positives, self._style_statistics, self._layout, config)

    def _channel_measured(self, direction: Direction, attribute: str) -> Direction:
        """A channel with its calibration and its Attribute Dependency at the response that channels are compared at."""
        config = self.job.stylespace
        effects = self.measured(direction, config.strengths)
        calibrated = calibrated_by(effects, direction, attribute, config.response, self.labeller.identity)
        up = effects.strengths > 0
        curve = attribute_dependency(effects.before, effects.after[up], effects.sigma, effects.attributes, attribute)
        mean_ad, max_ad = curve.at(config.response)
        rises = bool((effects.change(attribute)[up].mean(1) > 0).all())
        found = {
            "response": config.response,
            "mean_ad": None if np.isnan(mean_ad) else mean_ad,  # NaN is no JSON
            "max_ad": None if np.isnan(max_ad) else max_ad,
            "rises": rises,
        }
        return replace(calibrated, report={**calibrated.report, "dependency": found})

    @cached_property
    def _layout(self) -> StyleLayout:
        return StyleLayout.of(self.generator)

    @cached_property
    def _style_statistics(self) -> StyleStatistics:
        parts = []
        for block in self.samples.blocks(self.samples.attributes[0], latents=True):
            w = torch.from_numpy(block.latents).to(self.generator.device)
            w = w if self.samples.rows is None else w.view(len(w), self.samples.rows, -1)
            parts.append(StyleStatistics.of(styles_of(self.generator, self.all_rows(w)).cpu().numpy()))
        return StyleStatistics.merge(parts)

    @cached_property
    def _screening(self) -> Screening:
        start = self.fresh(max(self.job.calibration.samples, 64))  # a derivative of few images is of those images
        return screen_channels(self.generator, self.labeller, start.w, self._style_statistics.std, self.sigma)

    @cached_property
    def _factors(self) -> Factors:
        return fit_sefa(self.generator, self.job.sefa)

    @cached_property
    def _components(self) -> PrincipalComponents:
        job = self.job
        config = job.ganspace.model_copy(update={"components": max(job.components, 1)})
        if config.activations is not None:
            found = fit_activations(
                self.generator,
                ActivationConfig(
                    site=config.activations,
                    components=config.components,
                    samples=config.samples or 20_000,
                    seed=config.seed,
                ),
            )
        elif config.samples is not None:
            found = fit_ganspace(stream_w(self.generator, config.samples, config.seed), config)
        else:
            found = fit_ganspace(self._moments(), config)
        if self.samples.rows is not None:
            return found
        correlations = {}
        for name in self.samples.attributes:
            try:
                correlations[name] = correlate(found.components, self.samples, name)
            except DataError:  # a constant score says nothing of any component
                continue
        return replace(found, correlations=correlations)

    def _moments(self) -> Moments:
        if self.samples.rows is not None:
            raise ConfigError("components of W need samples of W, not inverted images; set ganspace.samples")
        blocks = self.samples.blocks(self.samples.attributes[0], latents=True)
        return Moments.merge(Moments.of(block.latents) for block in blocks)


def _other_changes(channel: Direction) -> tuple[bool, bool, float]:
    """What the best channel has least of; channels that do not reach the response come last, by their theta."""
    found = channel.report["dependency"]
    reached = found["mean_ad"] is not None
    return (
        not found["rises"],
        not reached,
        found["mean_ad"] if reached else channel.report.get("ratio", -channel.report.get("theta", 0.0)),
    )
