"""``fit``: fit directions on labelled samples, by one or more methods, and measure them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field, model_validator

from ganinv.config import StrictModel, reread
from ganinv.directions.direction import Direction
from ganinv.directions.fitting.context import FitContext
from ganinv.directions.fitting.fits import AnyMethod, DirectionFits
from ganinv.directions.fitting.method import DirectionMethod
from ganinv.directions.fitting.registry import METHODS
from ganinv.directions.measuring.calibration import CalibrationConfig
from ganinv.errors import ConfigError, DataError
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import open_labeller
from ganinv.store import Collection, Plan, RowError, Store, Unit, open_store
from tasks.engine import Pools, default_device, run_units
from tasks.generator_check import check_generator
from tasks.pool import WorkerSpec
from tasks.steps.changes import Changes
from tasks.steps.labelled import StoredSamples


def _usual() -> tuple[DirectionMethod, ...]:
    return METHODS["interfacegan"].model_validate({"tails": 0.1}), METHODS["ganspace"].model_validate({})


class FitJob(StrictModel):
    """Which directions to fit on the collection ``samples/<samples>``.

    Args:
        methods: any of ``ganinv.directions.fitting.registry.METHODS``, each with its settings. A boundary per attribute and
            ten principal components by default.
        source: ``latents`` fits on the inverted images ``latents/<samples>`` instead of samples.
        labels: take scores from ``labels/<labels>`` (see the step ``label``) or ``metrics/<labels>``; by default, from the
            samples themselves.
        labeller: measures what directions do, and provides gradients for the methods that need them.
        attributes: attributes to fit; if empty, every score column.
        generator: location of the generator; None takes that of the samples, and for latents the embedded one. Not part of the
            configuration's digest: its fingerprint is compared with the samples'.
        calibration: how each direction's response is measured: the unit of a step in standard deviations of the score.
        prefix: prepended to the directions' names, to tell the methods apart.
        compare: compare each direction with its previous version, by editing and rendering this many samples with both, and
            record the differences in its report. None skips this. Not part of the configuration's digest.
    """

    store: str
    name: str = "directions"
    methods: tuple[AnyMethod, ...] = Field(default_factory=_usual, min_length=1)
    samples: str = "samples"
    source: Literal["samples", "latents"] = "samples"
    labels: str | None = None
    labeller: str = "portraits-64"
    generator: str | None = None
    attributes: tuple[str, ...] = ()
    calibration: CalibrationConfig = CalibrationConfig()
    prefix: str = ""
    compare: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _check(self) -> FitJob:
        if self.compare is not None and self.source != "samples":
            raise ValueError("compare edits the samples of a fit: leave it out with source: latents")
        return self


class _Sources:
    """What a job fits on, opened from the store."""

    def __init__(self, job: FitJob, store: Store) -> None:
        self.job = job
        self.latents = store.collection(job.source, job.samples)
        self.origin = self.latents.provenance()
        self.scores: Collection | None = None
        if job.labels is not None:
            kind = "labels" if job.labels in store.list("labels") else "metrics"
            self.scores = store.collection(kind, job.labels)
            labeller = {k: v for k, v in self.scores.provenance().items() if k.startswith("labeller")}
            self.origin = {**self.origin, **labeller}

    def fits(self) -> DirectionFits:
        job, plan = self.job, self.latents.plan()
        context = FitContext(
            lambda space: StoredSamples(
                self.latents, self.scores, space, context.generator.z_dim if space == "z" else 0
            ),
            "w" if job.source == "samples" else "w+",
            self.origin,
            self._generator,
            lambda: open_labeller(job.labeller).to(default_device()),
            job.calibration,
            job.attributes,
            psi=float(plan.config.get("truncation_psi", 1.0)),
            seed=int(plan.config.get("seed", 0)),
        )
        return DirectionFits(job.methods, context, job.prefix)

    def _generator(self) -> Generator:
        sampled = self.job.source == "samples"  # an inversion knows its generator by the fingerprint alone
        known = self.latents.plan().config.get("generator", EMBEDDED) if sampled else EMBEDDED
        generator = open_generator(self.job.generator or str(known), default_device())
        check_generator(self.origin, generator, self.latents.url)
        return generator


def run_fit(job: FitJob, pools: Pools) -> dict[str, Any]:
    """Fit and store the directions; ``fits/<name>`` records which version each one became.

    Returns counts, the collection's URL, and as ``not_fitted`` why some could not be fitted, where there are such.
    """
    store = open_store(job.store)
    sources = _Sources(job, store)
    config = job.model_dump(mode="json", exclude={"store", "name", "compare", "generator"})
    config |= _state("samples", sources.latents)
    if sources.scores is not None:
        config |= _state("labels", sources.scores)
    names = sources.fits().names
    if not names:
        raise ConfigError(
            "there is no direction to fit: name attributes that the samples have scores of, or components"
        )
    plan = Plan.of("fit", config, {k: sources.origin.get(k) for k in ORIGIN}, names, 1)
    collection = store.collection("fits", job.name)
    spec = WorkerSpec(FitWorker, {"job": job})
    result = run_units(collection, plan, spec, pools, "fit", what="fits", reread=partial(reread, FitJob))
    if result["failed"]:
        result["not_fitted"] = collection.errors()["message"].to_pylist()
    return result


def _state(name: str, collection: Collection) -> dict[str, Any]:
    """What a fit is made from. One over a collection that grew is another fit, so that none mixes both."""
    plan = collection.plan()
    return {f"{name}_digest": plan.config_digest} | ({f"{name}_units": plan.units_digest} if plan.additions else {})


ORIGIN = ("code_version", "generator_name", "generator_fingerprint", "labeller")


class FitWorker:
    """Fits one direction at a time."""

    def __init__(self, job: FitJob) -> None:
        self.store = open_store(job.store)
        self.collection = self.store.collection("fits", job.name)
        self.fits = _Sources(job, self.store).fits()
        self.changes = None
        if job.compare is not None:
            self.changes = Changes(
                self.store, self.store.samples[job.samples], job.labeller, job.compare, job.generator
            )

    def process(self, ids: Sequence[str]) -> list[Any]:
        rows: list[Any] = []
        for name in ids:
            try:
                rows.append((name, self.fits.fit(name)))
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
        for known in self.store.directions.list(direction.name):
            if known["report"].get("fit_digest") == run:
                return int(known["version"])
        direction.report["fit_digest"] = run
        if self.changes is not None and (changes := self.changes.of(direction)) is not None:
            direction.report["changes"] = changes
        return self.store.directions.put(direction)
