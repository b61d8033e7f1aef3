"""What all direction methods share: labelled samples, a generator, a labeller, and measuring what directions do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from ganinv.codes.code import Code
from ganinv.directions.direction import Direction
from ganinv.directions.fitting.passes import Spread
from ganinv.directions.fitting.samples import LabelledSamples, LatentSpace
from ganinv.directions.measuring.calibration import CalibrationConfig, calibrate
from ganinv.directions.measuring.effects import Effects, Start, measure_effects, score_codes
from ganinv.errors import ConfigError, DataError, did_you_mean
from ganinv.generators.sampling import sample_z
from ganinv.generators.stylegan2 import Generator
from ganinv.labels.base import Labeller

FRESH = 1_000_000_000
"""Sample numbers from here on are used for measuring. No sampling reaches them, so they are never fitted on."""


class FitContext:
    """The inputs of a fit, each opened when it is first needed, once for all methods.

    Args:
        open_samples: the labelled samples, with latents in a space.
        kept: the space that the latents are kept in: ``w`` of samples, ``w+`` of inverted images.
        origin: ``generator_name`` and ``generator_fingerprint`` of the samples; ``labeller`` and ``labeller_sha256`` of
            their scores, where there are such.
        open_generator: the samples' generator. open_labeller: the labeller that measures what directions do.
        attributes: to fit; if empty, all that are scored.
        psi, seed: truncation and seed of the samples; fresh ones are drawn in the same way.
    """

    def __init__(
        self,
        open_samples: Callable[[LatentSpace], LabelledSamples],
        kept: LatentSpace,
        origin: Mapping[str, Any],
        open_generator: Callable[[], Generator],
        open_labeller: Callable[[], Labeller],
        calibration: CalibrationConfig,
        attributes: Sequence[str] = (),
        psi: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.kept, self.origin, self.calibration = kept, origin, calibration
        self.psi, self.seed = psi, seed
        self._open_samples, self._open_generator, self._open_labeller = open_samples, open_generator, open_labeller
        self._attributes = attributes
        self._samples: dict[LatentSpace, LabelledSamples] = {}

    def samples(self, space: LatentSpace | None = None) -> LabelledSamples:
        """The labelled samples with latents in ``space``; by default in the space they are stored in."""
        space = space or self.kept
        if space not in self._samples:
            self._samples[space] = self._open_samples(space)
        return self._samples[space]

    @cached_property
    def generator(self) -> Generator:
        return self._open_generator()

    @cached_property
    def labeller(self) -> Labeller:
        return self._open_labeller()

    @property
    def attributes(self) -> list[str]:
        """Which to fit.

        Raises:
            ConfigError: one that the samples have no score of.
        """
        return self.scored(self._attributes or self.columns)

    @property
    def columns(self) -> Mapping[str, str]:
        """Attribute -> the column that its scores came from."""
        return self.samples().columns

    def scored(self, attributes: Iterable[str]) -> list[str]:
        """The same attributes, if all have scores.

        Raises:
            ConfigError: one has none; names it.
        """
        for name in (names := list(attributes)):
            if name not in self.columns:
                known = list(self.columns)
                raise ConfigError(
                    f"the samples have no score of {name!r}{did_you_mean(name, known)}; there are: {', '.join(known)}"
                )
        return names

    @cached_property
    def sigma(self) -> dict[str, float]:
        """Standard deviation of the score of each of the labeller's attributes, over the samples."""
        found = {}
        for name in self.labeller.attributes:
            if name in self.columns:
                spread = Spread()
                for block in self.samples().blocks(name, latents=False):
                    spread.add(block.scores[np.isfinite(block.scores)])
                found[name] = spread.std
        return found

    def can_measure(self, attribute: str | None = None) -> bool:
        """Whether edits can be rendered and scored: the labeller sees images, and its scores of the samples vary."""
        if not self.calibration.samples or self.labeller.needs != "images":
            return False
        known = set(self.labeller.attributes)
        return known <= set(self.columns) and all(self.sigma.values()) and attribute in (None, *known)

    def has_gradient(self, attribute: str) -> None:
        """Refuse an attribute whose score the labeller cannot differentiate.

        Raises:
            DataError: it has no such score.
        """
        if attribute not in self.labeller.attributes:
            raise DataError(
                f"attribute {attribute!r}: labeller {self.labeller.identity} has no such score to take gradients of; "
                f"it has {', '.join(self.labeller.attributes)}"
            )

    def calibrated(self, direction: Direction, attribute: str) -> Direction:
        """The direction with its calibration in its report; unchanged if it cannot be measured."""
        if not self.can_measure(attribute):
            return direction
        g, labeller, (start, before) = self.generator, self.labeller, self.unedited
        return calibrate(direction, attribute, g, labeller, start, self.sigma, self.calibration, before)

    def measured(self, direction: Direction, strengths: Sequence[float]) -> Effects:
        """What a direction does to the samples of the calibration."""
        start, before = self.unedited
        return measure_effects(self.generator, self.labeller, direction, start, strengths, self.sigma, before)

    @cached_property
    def unedited(self) -> tuple[Start, np.ndarray]:
        """The samples of the calibration, and their scores [N, K]: rendered once for all directions."""
        start = self.fresh(self.calibration.samples)
        return start, score_codes(self.generator, self.labeller, Code(w=start.w))

    def fresh(self, count: int) -> Start:
        """Samples that nothing was fitted on, rendered as the fitted ones were."""
        z = sample_z(self.seed, range(FRESH, FRESH + count), self.generator.z_dim)
        return Start.of(self.generator, z, self.psi)

    def meaning(self, attribute: str) -> str:
        """What a higher score means, in the labeller's words; empty if it has no such attribute."""
        known = self.labeller.attributes.get(attribute)
        return known.positive_means if known else ""

    def column(self, attribute: str) -> tuple[np.ndarray, np.ndarray]:
        """(ids, scores) of all samples."""
        blocks = list(self.samples().blocks(attribute, latents=False))
        return np.concatenate([b.ids for b in blocks]), np.concatenate([b.scores for b in blocks])

    def latents(self, flat: np.ndarray) -> torch.Tensor:
        """Latents of ``samples()`` [n, D] or [n, num_ws, w_dim] as w of every row: [n, num_ws, w_dim]."""
        w, rows = torch.from_numpy(flat).to(self.generator.device), self.samples().rows
        w = w if rows is None else w.view(len(w), rows, -1)
        return w if w.ndim == 3 else w[:, None].expand(-1, self.generator.num_ws, -1)
