"""``fit``: directions from labelled samples, by one of the methods, and what each is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field, model_validator

from ganinv.config import StrictModel, reread
from ganinv.directions.direction import Direction
from ganinv.directions.fitting.classifier_gradient import GradientConfig
from ganinv.directions.fitting.ganspace import GanSpaceConfig
from ganinv.directions.fitting.interfacegan import InterFaceGanConfig
from ganinv.directions.fitting.sefa import SefaConfig
from ganinv.directions.fitting.stylespace import StyleSpaceConfig
from ganinv.directions.measuring.calibration import CalibrationConfig
from ganinv.errors import DataError
from ganinv.store import Collection, Plan, RowError, Unit, open_store
from tasks.engine import Pools, drive
from tasks.pool import WorkerSpec
from tasks.steps.changes import Changes
from tasks.steps.fitters import Fitter
from tasks.steps.labelled import LatentSpace

Method = Literal["interfacegan", "ganspace", "stylespace", "sefa", "classifier-gradient"]


class FitJob(StrictModel):
    """Which directions to fit on the collection ``samples/<samples>``.

    Args:
        method: ``interfacegan`` makes one direction per attribute, and ``components`` principal components beside them;
            ``ganspace`` the components alone; ``stylespace`` the best single channel of S per attribute; ``sefa``
            factors of the weights; ``classifier-gradient`` the labeller's mean gradient per attribute.
        source: ``latents`` fits on ``latents/<samples>``, inverted images, in place of samples.
        labels: scores come from ``labels/<labels>`` (see the step ``label``) or ``metrics/<labels>``; by default they are
            the samples' own.
        labeller: measures what directions do; its gradients are those of ``classifier-gradient``.
        attributes: for which attributes; empty takes every score column.
        generator: where it is opened; None takes where the samples' was, and for latents the embedded one. No part of the
            configuration's digest: its fingerprint is compared with the samples'.
        space: of InterFaceGAN's boundaries. ``w+`` needs inverted images.
        conditions: attribute -> attributes to project out of its boundary (Gram solve).
        conditions_by: what stands for a condition: ``boundary``, the normal of its own boundary, as published; or
            ``gradient``, the mean gradient of its score (log-odds of a probability) over fresh samples, summed over the rows
            that the direction moves. Of boundaries of correlated scores the first may leave the side effect, or turn it
            round; the second holds the mean score still to first order. It needs the labeller's gradients, and ``space`` w
            or w+.
        layers: attribute -> W+ rows [start, end) that its direction moves; all rows where it says nothing.
        components: how many GANSpace components; 0 for none.
        calibration: how each direction's response is measured: the unit of a step in standard deviations of the score.
        prefix: of the directions' names, to keep those of one method apart from another's.
        compare: record in each direction's report what changed since its version before, and edit and render this many
            samples with both to say what they do. None leaves it out. No part of the configuration's digest.
    """

    store: str
    name: str = "directions"
    method: Method = "interfacegan"
    samples: str = "samples"
    source: Literal["samples", "latents"] = "samples"
    labels: str | None = None
    labeller: str = "portraits-64"
    generator: str | None = None
    attributes: tuple[str, ...] = ()
    space: LatentSpace = "w"
    interfacegan: InterFaceGanConfig = InterFaceGanConfig(tails=0.1, estimator="svc")
    conditions: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    conditions_by: Literal["boundary", "gradient"] = "boundary"
    layers: Mapping[str, tuple[int, int]] = Field(default_factory=dict)
    components: int = Field(10, ge=0)
    component_layers: tuple[int, int] | None = None
    ganspace: GanSpaceConfig = GanSpaceConfig()
    stylespace: StyleSpaceConfig = StyleSpaceConfig()
    sefa: SefaConfig = SefaConfig()
    gradient: GradientConfig = GradientConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    prefix: str = ""
    compare: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _check(self) -> FitJob:
        if self.compare is not None and self.source != "samples":
            raise ValueError("compare edits the samples of a fit: leave it out with source: latents")
        return self


OPTIONAL = (
    "method",
    "source",
    "labels",
    "space",
    "conditions_by",
    "ganspace",
    "stylespace",
    "sefa",
    "gradient",
    "calibration",
    "prefix",
)
"""Fields that are part of a run's digest only where they say something: runs from before they existed go on."""


def run_fit(job: FitJob, pools: Pools) -> dict[str, Any]:
    """Fit and store the directions; ``fits/<name>`` records which version each one became.

    Returns counts, the collection's URL, and as ``not_fitted`` why some could not be fitted, where there are such.
    """
    store = open_store(job.store)
    fitter = Fitter(job, store)
    plain = {key for key in OPTIONAL if getattr(job, key) == FitJob.model_fields[key].default}
    config = job.model_dump(mode="json", exclude={"store", "name", "compare", "generator"} | plain)
    config |= _state("samples", fitter.collection)
    if job.labels is not None:
        config |= _state("labels", fitter.samples.scores)
    plan = Plan.of("fit", config, {k: fitter.origin.get(k) for k in ORIGIN}, fitter.names(), 1)
    collection = store.collection("fits", job.name)
    spec = WorkerSpec(FitWorker, {"job": job})
    result = drive(collection, plan, spec, pools, "fit", reread=partial(reread, FitJob))
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
        self.fitter = Fitter(job, self.store)
        self.changes = None
        if job.compare is not None:
            self.changes = Changes(
                self.store, self.store.samples[job.samples], job.labeller, job.compare, job.generator
            )

    def process(self, ids: Sequence[str]) -> list[Any]:
        rows: list[Any] = []
        for name in ids:
            try:
                rows.append((name, self.fitter.fit(name)))
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
