"""The methods that ``fit`` can be told to use: each makes named directions of the same labelled samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from ganinv.directions.activations import ActivationConfig, fit_activations
from ganinv.directions.calibration import calibrate, calibrated_by
from ganinv.directions.classifier_gradient import fit_classifier_gradient, image_scores
from ganinv.directions.direction import Direction
from ganinv.directions.effects import Start, measure_effects
from ganinv.directions.ganspace import PrincipalComponents, correlate, fit_ganspace, named_by
from ganinv.directions.interfacegan import Boundary, fit_boundary
from ganinv.directions.projection import project_out
from ganinv.directions.sefa import Factors, fit_sefa
from ganinv.directions.streams import stream_w
from ganinv.directions.styles import StyleLayout, StyleStatistics, styles_of
from ganinv.directions.stylespace import attribute_channels, channel_direction, choose_positives
from ganinv.errors import ConfigError, DataError
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import Labeller, open_labeller
from ganinv.metrics import Moments, attribute_dependency
from ganinv.sampling import sample_z
from ganinv.store import Store
from tasks.engine import default_device
from tasks.label import generator_is
from tasks.labelled import StoredSamples

if TYPE_CHECKING:
    from tasks.fit import FitJob

FRESH = 1_000_000_000
"""Sample numbers from here on are for measuring: no sampling gets so far, so they were never fitted on."""


class Fitter:
    """Everything that the methods share, opened when it is first needed."""

    def __init__(self, job: FitJob, store: Store) -> None:
        self.job = job
        self.collection = store.collection(job.source, job.samples)
        self.origin = self.collection.provenance()
        scores = None
        if job.labels is not None:
            kind = "labels" if job.labels in store.list("labels") else "metrics"
            scores = store.collection(kind, job.labels)
            self.origin = {**self.origin, **{k: v for k, v in scores.provenance().items() if k.startswith("labeller")}}
        space = job.space
        if job.method != "interfacegan":  # the other methods work on w, whatever the space of boundaries is
            space = "w" if job.source == "samples" else "w+"
        z_dim = self.generator.z_dim if space == "z" else 0
        self.samples = StoredSamples(self.collection, scores, space, z_dim)
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

    # The methods.

    def _boundary(self, attribute: str) -> Direction:
        direction = self._plane(attribute).direction(
            self.origin["generator_name"],
            self.origin["generator_fingerprint"],
            positive_means=self._meaning(attribute),
            labeller=self.origin.get("labeller"),
            layers=self.job.layers.get(attribute),
            space=self.job.space,
            rows=self.samples.rows if self.job.space == "w+" else None,
        )
        conditions = self.job.conditions.get(attribute)
        if conditions:
            planes = [self._plane(condition).vector for condition in conditions]
            direction.report["conditions"] = list(conditions)
            rest = project_out(direction.vector.reshape(-1), np.stack(planes))
            direction = direction.with_vector(rest.reshape(direction.vector.shape))
        return self._calibrated(direction, attribute)

    def _plane(self, attribute: str) -> Boundary:
        """The boundary of an attribute, fitted once however many directions are conditioned on it."""
        if attribute not in self._planes:
            self._planes[attribute] = fit_boundary(self.samples, self.job.interfacegan, attribute=attribute)
        return self._planes[attribute]

    def _component(self, name: str) -> Direction:
        direction = self._components.direction(
            int(name.removeprefix("pca-")),
            self.origin["generator_name"],
            self.origin["generator_fingerprint"],
            layers=self.job.component_layers,
            mode="relative",
            labeller=self.origin.get("labeller"),
        )
        return self._named(direction)

    def _factor(self, name: str) -> Direction:
        return self._named(self._factors.direction(int(name.removeprefix("sefa-")), self.generator))

    def _gradient(self, attribute: str) -> Direction:
        if attribute not in self.labeller.attributes:
            raise DataError(
                f"attribute {attribute!r}: labeller {self.labeller.identity} has no such score to take gradients of; "
                f"it has {', '.join(self.labeller.attributes)}"
            )
        config = self.job.gradient
        if attribute in self.job.layers:
            config = config.model_copy(update={"rows": self.job.layers[attribute]})
        start = self._fresh(config.samples)
        direction = fit_classifier_gradient(
            image_scores(self.generator, self.labeller),
            start.w,
            attribute,
            self.generator,
            config,
            positive_means=self._meaning(attribute),
            labeller=self.labeller.identity,
        )
        return self._calibrated(direction, attribute)

    def _channel(self, attribute: str) -> Direction:
        """The best of the channels that a few positives have in common: by what else its edit changes."""
        ids, scores = self._column(attribute)
        config = self.job.stylespace
        rows = choose_positives(scores, ids, config, attribute)
        w = torch.from_numpy(self.samples.of_ids(ids[rows].tolist())).to(self.generator.device)
        positives = styles_of(self.generator, self._all_rows(w)).cpu().numpy()
        found = attribute_channels(positives, self._style_statistics, self._layout, config)
        candidates = [
            channel_direction(
                self._layout,
                channel.index,
                float(self._style_statistics.std[channel.index]),
                self.origin["generator_name"],
                self.origin["generator_fingerprint"],
                name=attribute,
                sign=channel.difference,
                positive_means=self._meaning(attribute),
                labeller=self.origin.get("labeller"),
                report={"attribute": attribute, "theta": channel.theta, "difference": channel.difference},
            )
            for channel in found
        ]
        if not candidates:
            raise DataError(f"attribute {attribute!r}: the positives have no channel of S in common")
        if not self._can_measure(attribute):
            return candidates[0]
        measured = [self._channel_measured(candidate, attribute) for candidate in candidates]
        best = min(measured, key=_other_changes)
        if not best.report["dependency"]["rises"]:
            raise DataError(
                f"attribute {attribute!r}: none of the {len(measured)} channels that its positives have in common raises "
                "its score; take more channels, or more positives"
            )
        kept = ("layer", "channel", "theta", "dependency")
        best.report["candidates"] = [{key: each.report[key] for key in kept} for each in measured]
        return best

    def _channel_measured(self, direction: Direction, attribute: str) -> Direction:
        """A channel with its calibration and its Attribute Dependency at the response that channels are compared at."""
        config = self.job.stylespace
        start = self._fresh(self.job.calibration.samples)
        effects = measure_effects(self.generator, self.labeller, direction, start, config.strengths, self.sigma)
        calibrated = calibrated_by(effects, direction, attribute, config.response, self.labeller.identity)
        up = effects.strengths > 0
        curve = attribute_dependency(effects.before, effects.after[up], effects.sigma, effects.attributes, attribute)
        mean_ad, max_ad = curve.at(config.response)
        rises = bool((effects.change(attribute)[up].mean(1) > 0).all())
        found = {"response": config.response, "mean_ad": mean_ad, "max_ad": max_ad, "rises": rises}
        found = {key: None if value != value else value for key, value in found.items()}  # NaN is no JSON
        return replace(calibrated, report={**calibrated.report, "dependency": found})

    # What they share.

    @cached_property
    def generator(self) -> Generator:
        uri = str(self.collection.plan().config.get("generator", EMBEDDED))
        generator = open_generator(uri, default_device())
        generator_is(self.origin, generator.fingerprint, generator.name, self.collection.url)
        return generator

    @cached_property
    def labeller(self) -> Labeller:
        return open_labeller(self.job.labeller).to(default_device())

    @cached_property
    def sigma(self) -> dict[str, float]:
        """Standard deviation of the score of each of the labeller's attributes, over the samples."""
        known = [name for name in self.labeller.attributes if name in self.samples.columns]
        return {name: float(np.nanstd(self._column(name)[1])) for name in known}

    def _can_measure(self, attribute: str | None = None) -> bool:
        """Whether edits can be rendered and scored: the labeller sees images, and its scores of the samples vary."""
        if not self.job.calibration.samples or self.labeller.needs != "images":
            return False
        known = set(self.labeller.attributes)
        return known <= set(self.samples.columns) and all(self.sigma.values()) and attribute in (None, *known)

    def _calibrated(self, direction: Direction, attribute: str) -> Direction:
        if not self._can_measure(attribute):
            return direction
        config = self.job.calibration
        start = self._fresh(config.samples)
        return calibrate(direction, attribute, self.generator, self.labeller, start, self.sigma, config)

    def _named(self, direction: Direction) -> Direction:
        """A component with what it does as its meaning."""
        if not self._can_measure():
            return direction
        start = self._fresh(self.job.calibration.samples)
        effects = measure_effects(self.generator, self.labeller, direction, start, (-2.0, 2.0), self.sigma)
        return named_by(direction, dict(zip(effects.attributes, effects.slope().tolist(), strict=True)))

    def _fresh(self, count: int) -> Start:
        """Samples that nothing was fitted on, rendered as the fitted ones were."""
        psi = float(self.collection.plan().config.get("truncation_psi", 1.0))
        seed = int(self.collection.plan().config.get("seed", 0))
        z = sample_z(seed, range(FRESH, FRESH + count), self.generator.z_dim)
        return Start.of(self.generator, z, psi)

    def _meaning(self, attribute: str) -> str:
        known = self.labeller.attributes.get(attribute)
        return known.positive_means if known else ""

    def _column(self, attribute: str) -> tuple[np.ndarray, np.ndarray]:
        """(ids, scores) of all samples."""
        blocks = list(self.samples.blocks(attribute, latents=False))
        return np.concatenate([b.ids for b in blocks]), np.concatenate([b.scores for b in blocks])

    def _all_rows(self, w: torch.Tensor) -> torch.Tensor:
        return w if w.ndim == 3 else w[:, None].expand(-1, self.generator.num_ws, -1)

    @cached_property
    def _layout(self) -> StyleLayout:
        return StyleLayout.of(self.generator)

    @cached_property
    def _style_statistics(self) -> StyleStatistics:
        parts = []
        for block in self.samples.blocks(self.samples.attributes[0], latents=True):
            w = torch.from_numpy(block.latents).to(self.generator.device)
            w = w if self.samples.rows is None else w.view(len(w), self.samples.rows, -1)
            parts.append(StyleStatistics.of(styles_of(self.generator, self._all_rows(w)).cpu().numpy()))
        return StyleStatistics.merge(parts)

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
    return (not found["rises"], not reached, found["mean_ad"] if reached else -channel.report["theta"])
