"""What all methods of the fit step share: samples, generator, labeller, and measuring what directions do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from ganinv.codes.code import Code
from ganinv.directions.direction import Direction
from ganinv.directions.fitting.ganspace import named_by
from ganinv.directions.fitting.passes import Spread
from ganinv.directions.measuring.calibration import calibrate
from ganinv.directions.measuring.effects import Effects, Start, measure_effects, score_codes
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.generators.sampling import sample_z
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import Labeller, open_labeller
from ganinv.store import Store
from tasks.engine import default_device
from tasks.steps.label import generator_is
from tasks.steps.labelled import StoredSamples

if TYPE_CHECKING:
    from tasks.steps.fit import FitJob

FRESH = 1_000_000_000
"""Sample numbers from here on are for measuring: no sampling gets so far, so they were never fitted on."""


class FitContext:
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

    @cached_property
    def generator(self) -> Generator:
        sampled = self.job.source == "samples"  # an inversion knows its generator by the fingerprint alone
        known = self.collection.plan().config.get("generator", EMBEDDED) if sampled else EMBEDDED
        generator = open_generator(self.job.generator or str(known), default_device())
        generator_is(self.origin, generator.fingerprint, generator.name, self.collection.url)
        return generator

    @cached_property
    def labeller(self) -> Labeller:
        return open_labeller(self.job.labeller).to(default_device())

    @cached_property
    def sigma(self) -> dict[str, float]:
        """Standard deviation of the score of each of the labeller's attributes, over the samples."""
        found = {}
        for name in self.labeller.attributes:
            if name in self.samples.columns:
                spread = Spread()
                for block in self.samples.blocks(name, latents=False):
                    spread.add(block.scores[np.isfinite(block.scores)])
                found[name] = spread.std
        return found

    def can_measure(self, attribute: str | None = None) -> bool:
        """Whether edits can be rendered and scored: the labeller sees images, and its scores of the samples vary."""
        if not self.job.calibration.samples or self.labeller.needs != "images":
            return False
        known = set(self.labeller.attributes)
        return known <= set(self.samples.columns) and all(self.sigma.values()) and attribute in (None, *known)

    def calibrated(self, direction: Direction, attribute: str) -> Direction:
        if not self.can_measure(attribute):
            return direction
        g, labeller, (start, before) = self.generator, self.labeller, self.unedited
        return calibrate(direction, attribute, g, labeller, start, self.sigma, self.job.calibration, before)

    def named(self, direction: Direction) -> Direction:
        """A component with what it does as its meaning."""
        if not self.can_measure():
            return direction
        effects = self.measured(direction, (-2.0, 2.0))
        return named_by(direction, dict(zip(effects.attributes, effects.slope().tolist(), strict=True)))

    def measured(self, direction: Direction, strengths: Sequence[float]) -> Effects:
        """What a direction does to the samples of the calibration."""
        start, before = self.unedited
        return measure_effects(self.generator, self.labeller, direction, start, strengths, self.sigma, before)

    @cached_property
    def unedited(self) -> tuple[Start, np.ndarray]:
        """The samples of the calibration, and their scores [N, K]: rendered once for all directions."""
        start = self.fresh(self.job.calibration.samples)
        return start, score_codes(self.generator, self.labeller, Code(w=start.w))

    def fresh(self, count: int) -> Start:
        """Samples that nothing was fitted on, rendered as the fitted ones were."""
        psi = float(self.collection.plan().config.get("truncation_psi", 1.0))
        seed = int(self.collection.plan().config.get("seed", 0))
        z = sample_z(seed, range(FRESH, FRESH + count), self.generator.z_dim)
        return Start.of(self.generator, z, psi)

    def meaning(self, attribute: str) -> str:
        known = self.labeller.attributes.get(attribute)
        return known.positive_means if known else ""

    def column(self, attribute: str) -> tuple[np.ndarray, np.ndarray]:
        """(ids, scores) of all samples."""
        blocks = list(self.samples.blocks(attribute, latents=False))
        return np.concatenate([b.ids for b in blocks]), np.concatenate([b.scores for b in blocks])

    def all_rows(self, w: torch.Tensor) -> torch.Tensor:
        return w if w.ndim == 3 else w[:, None].expand(-1, self.generator.num_ws, -1)
