"""What a refit changed: the new direction and the version before it, measured on the same samples."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch

from ganinv.codes.code import Code
from ganinv.directions.direction import Direction
from ganinv.directions.measuring.changes import changes_since
from ganinv.directions.measuring.effects import Start, measure_effects, score_codes
from ganinv.errors import ConfigError, GeneratorMismatch
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.generators.sampling import class_vectors, sample_index, sample_z
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import Labeller, open_labeller
from ganinv.store import Collection, Store, tensor_numpy
from ganinv.store.directions import SHIPPED_VERSION
from tasks.engine import default_device
from tasks.generator_check import check_generator

STRENGTHS = (-1.0, 1.0)


class Changes:
    """Compares directions that are about to be stored with those in the store.

    Args:
        samples: the collection they were fitted on; its first ``count`` rows are edited, rendered and scored.
        count: 0 compares without rendering.
        generator: where it is opened; None takes where the samples' was.
    """

    def __init__(
        self, store: Store, samples: Collection, labeller: str, count: int, generator: str | None = None
    ) -> None:
        self.store, self.samples, self.count = store, samples, count
        self._labeller_name, self._generator_uri = labeller, generator

    def of(self, direction: Direction) -> dict[str, Any] | None:
        """See ``changes_since``; None if there is no version before it for this generator."""
        try:
            previous = self.store.directions.get(direction.name, generator=direction.generator_fingerprint)
        except (ConfigError, GeneratorMismatch):
            return None
        if previous.version == SHIPPED_VERSION:  # none of this store's
            return None
        if not self.count or self.labeller.needs != "images":
            return changes_since(previous, direction)
        return changes_since(previous, direction, self._effects(previous), self._effects(direction))

    def _effects(self, direction: Direction) -> dict[str, float]:
        found = measure_effects(
            self.generator, self.labeller, direction, self._start, STRENGTHS, self._sigma, self._before
        )
        return {name: float(value) for name, value in zip(found.attributes, found.slope(), strict=True)}

    @cached_property
    def generator(self) -> Generator:
        origin, config = self.samples.provenance(), self.samples.plan().config
        generator = open_generator(self._generator_uri or str(config.get("generator", EMBEDDED)), default_device())
        check_generator(origin, generator, f"samples {self.samples.name!r}")
        return generator

    @cached_property
    def labeller(self) -> Labeller:
        return open_labeller(self._labeller_name).to(default_device())

    @cached_property
    def _start(self) -> Start:
        """The first samples, as they were rendered when they were scored; with their z where that follows from a seed."""
        plan = self.samples.plan()
        table = self.samples.read(columns=["image_id", "w", "truncation_psi"], ids=plan.ids[: self.count])
        w = torch.from_numpy(tensor_numpy(table["w"])).to(self.generator.device)[:, None]
        psi = torch.from_numpy(table["truncation_psi"].to_numpy().copy()).to(w)[:, None, None]
        w = self.generator.w_mean.lerp(w.expand(-1, self.generator.num_ws, -1), psi)
        ids = table["image_id"].to_pylist()
        if "seed" not in plan.config or not all(i.startswith("sample-") for i in ids):
            return Start(w)
        indices = [sample_index(i) for i in ids]
        z = sample_z(int(plan.config["seed"]), indices, self.generator.z_dim)
        c = class_vectors(self.generator.c_dim, indices, plan.config.get("classes", ()))
        return Start(w, z, float(psi[0]), None if c is None else c.to(w))

    @cached_property
    def _before(self) -> np.ndarray:
        with torch.inference_mode():
            return score_codes(self.generator, self.labeller, Code(w=self._start.w))

    @cached_property
    def _sigma(self) -> dict[str, float]:
        columns = [f"score_{name}" for name in self.labeller.attributes]
        names = self.samples.read(ids=[]).schema.names
        table = self.samples.read(columns=[c for c in columns if c in names])
        return {c.removeprefix("score_"): float(np.nanstd(table[c].to_numpy())) for c in table.schema.names}
