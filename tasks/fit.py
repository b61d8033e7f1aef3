"""``fit``: directions from labelled samples, by InterFaceGAN (one per attribute) and GANSpace (components of W)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from ganinv.config import StrictModel
from ganinv.directions.direction import Direction
from ganinv.directions.ganspace import GanSpaceConfig, PrincipalComponents, fit_ganspace
from ganinv.directions.interfacegan import InterFaceGanConfig, fit_interfacegan
from ganinv.directions.projection import project_out
from ganinv.errors import ConfigError, DataError
from ganinv.labels import open_labeller
from ganinv.store import Plan, RowError, Unit, open_store, tensor_numpy
from tasks.changes import Changes
from tasks.engine import Pools, drive
from tasks.pool import WorkerSpec


class FitJob(StrictModel):
    """Which directions to fit on the collection ``samples/<samples>``.

    Args:
        attributes: attributes for InterFaceGAN; empty takes every score column.
        conditions: attribute -> attributes to project out of its boundary (Gram solve).
        layers: attribute -> W+ rows [start, end) that its direction moves; all rows where it says nothing.
        components: how many GANSpace components; 0 for none.
        compare: record in each direction's report what changed since its version before, and edit and render this many
            samples with both to say what they do. None leaves it out. No part of the configuration's digest.
    """

    store: str
    name: str = "directions"
    samples: str = "samples"
    labeller: str = "portraits-64"
    attributes: tuple[str, ...] = ()
    interfacegan: InterFaceGanConfig = InterFaceGanConfig(tails=0.1, estimator="svc")
    conditions: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    layers: Mapping[str, tuple[int, int]] = Field(default_factory=dict)
    components: int = Field(10, ge=0)
    component_layers: tuple[int, int] | None = None
    compare: int | None = Field(None, ge=0)


def run_fit(job: FitJob, pools: Pools) -> dict[str, Any]:
    """Fit and store the directions; ``fits/<name>`` records which version each one became."""
    store = open_store(job.store)
    samples = store.samples[job.samples]
    origin = samples.provenance()
    known = [c.removeprefix("score_") for c in samples.read(ids=[]).schema.names if c.startswith("score_")]
    attributes = list(job.attributes or known)
    for name in [*attributes, *job.conditions, *job.layers, *(c for cs in job.conditions.values() for c in cs)]:
        if name not in known:
            raise ConfigError(f"samples {job.samples!r} have no score of {name!r}; there are: {', '.join(known)}")
    names = attributes + [f"pca-{i:02d}" for i in range(job.components)]
    config = job.model_dump(mode="json", exclude={"store", "name", "compare"}) | {
        "samples_digest": origin["config_digest"]
    }
    plan = Plan.of("fit", config, {k: origin[k] for k in ORIGIN}, names, 1)
    return drive(store.collection("fits", job.name), plan, WorkerSpec(FitWorker, {"job": job}), pools, "fit")


ORIGIN = ("code_version", "generator_name", "generator_fingerprint", "labeller")


class FitWorker:
    """Fits one direction at a time; the samples are read once."""

    def __init__(self, job: FitJob) -> None:
        self.job = job
        self.store = open_store(job.store)
        self.collection = self.store.collection("fits", job.name)
        self.samples = self.store.samples[job.samples].read()
        self.origin = self.store.samples[job.samples].provenance()
        self.changes = None
        if job.compare is not None:
            self.changes = Changes(self.store, self.store.samples[job.samples], job.labeller, job.compare)
        self.latents = tensor_numpy(self.samples["w"]).astype(np.float64)
        self.meanings = {name: a.positive_means for name, a in open_labeller(job.labeller).attributes.items()}

    def process(self, ids: Sequence[str]) -> list[Any]:
        rows: list[Any] = []
        for name in ids:
            try:
                rows.append((name, self._component(name) if name.startswith("pca-") else self._boundary(name)))
            except DataError as error:  # this attribute cannot be fitted; the others can
                rows.append(RowError(name, "not_fitted", str(error)))
        return rows

    def commit(self, unit: Unit, rows: list[Any], failures: Sequence[RowError]) -> Mapping[str, Any]:
        stored = [(name, direction, self._put(direction)) for name, direction in rows]
        table = pa.table(
            {
                "image_id": pa.array([name for name, _, _ in stored], pa.string()),
                "version": pa.array([version for _, _, version in stored], pa.int64()),
                "method": pa.array([d.method for _, d, _ in stored], pa.string()),
                "unit": pa.array([d.unit for _, d, _ in stored], pa.float64()),
                "validation_accuracy": pa.array(
                    [d.report.get("validation_accuracy") for _, d, _ in stored], pa.float64()
                ),
                "stability": pa.array([d.report.get("stability") for _, d, _ in stored], pa.float64()),
            }
        )
        self.collection.write_part(unit.index, table, failures, {})
        return {}

    def _put(self, direction: Direction) -> int:
        """Store a direction, or find the version that an interrupted run of this very fit stored."""
        run = self.collection.plan().config_digest
        for known in self.store.directions.list():
            if known["name"] == direction.name and known["report"].get("fit_digest") == run:
                return int(known["version"])
        direction.report["fit_digest"] = run
        if self.changes is not None and (changes := self.changes.of(direction)) is not None:
            direction.report["changes"] = changes
        return self.store.directions.put(direction)

    def _boundary(self, attribute: str) -> Direction:
        boundary = fit_interfacegan(
            self.latents,
            self.samples[f"score_{attribute}"].to_numpy(),
            self.job.interfacegan,
            attribute=attribute,
            ids=self.samples["image_id"].to_pylist(),
        )
        direction = boundary.direction(
            self.origin["generator_name"],
            self.origin["generator_fingerprint"],
            positive_means=self.meanings.get(attribute, ""),
            labeller=self.origin.get("labeller"),
            layers=self.job.layers.get(attribute),
        )
        conditions = self.job.conditions.get(attribute)
        if not conditions:
            return direction
        planes = [self._plane(c) for c in conditions]
        direction.report["conditions"] = list(conditions)
        return direction.with_vector(project_out(direction.vector, np.stack(planes)))

    def _plane(self, attribute: str) -> np.ndarray:
        scores = self.samples[f"score_{attribute}"].to_numpy()
        ids = self.samples["image_id"].to_pylist()
        return fit_interfacegan(self.latents, scores, self.job.interfacegan, attribute=attribute, ids=ids).vector

    def _component(self, name: str) -> Direction:
        return self._components.direction(
            int(name.removeprefix("pca-")),
            self.origin["generator_name"],
            self.origin["generator_fingerprint"],
            layers=self.job.component_layers,
            mode="relative",
            labeller=self.origin.get("labeller"),
        )

    @cached_property
    def _components(self) -> PrincipalComponents:
        scores = {
            c.removeprefix("score_"): self.samples[c].to_numpy()
            for c in self.samples.schema.names
            if c.startswith("score_")
        }
        return fit_ganspace(self.latents, GanSpaceConfig(components=self.job.components), scores)
