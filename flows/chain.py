"""The whole chain as one flow: sample, label, fit, train, align, invert, edit, paste, evaluate, report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from flows.cancelling import cancel_watch
from flows.runtime import ProgressArtifact, as_flow, markdown, run_as_task, table
from ganinv.config import StrictModel, config_path, load_yaml, validate
from ganinv.generators.files import EMBEDDED
from ganinv.stages.method import method_config
from ganinv.store import open_store
from tasks.engine import Engine, Pools, open_pools
from tasks.outcome import check_faces
from tasks.sources import DatasetRef
from tasks.steps.align import AlignJob, aligned, run_align
from tasks.steps.edit import EditJob, run_edit
from tasks.steps.evaluate import EvaluateJob, run_evaluate
from tasks.steps.fit import FitJob, run_fit
from tasks.steps.invert import InvertJob, run_invert
from tasks.steps.label import LabelJob, run_label
from tasks.steps.paste import PasteJob, run_paste
from tasks.steps.report import ReportJob, run_report
from tasks.steps.sample import SampleJob, run_sample
from tasks.steps.train import TrainJob, run_train

STEPS = ("sample", "label", "fit", "train", "align", "invert", "edit", "paste", "evaluate", "report")


class ChainJob(StrictModel):
    """The jobs of a chain. ``store``, ``generator`` and ``dataset`` given here hold for every step that does not say
    otherwise; steps that are absent are not run. ``fit`` is one job, or several with names of their own. A trained
    inverter is found by its name in the inversions after it. With ``align`` the data set is one of photos, and what is inverted
    are the faces that it finds there."""

    store: str
    dataset: DatasetRef
    generator: str = EMBEDDED
    engine: Engine = Engine()
    sample: SampleJob | None = None
    label: tuple[LabelJob, ...] = ()
    fit: FitJob | tuple[FitJob, ...] | None = None
    train: tuple[TrainJob, ...] = ()
    align: AlignJob | None = None
    invert: tuple[InvertJob, ...] = ()
    edit: tuple[EditJob, ...] = ()
    paste: tuple[PasteJob, ...] = ()
    evaluate: tuple[EvaluateJob, ...] = ()
    report: ReportJob | None = None

    @property
    def fits(self) -> tuple[FitJob, ...]:
        """The fits, in order."""
        return (self.fit,) if isinstance(self.fit, FitJob) else self.fit or ()

    @model_validator(mode="after")
    def _names(self) -> ChainJob:
        for what, names in (("fit", [f.name for f in self.fits]), ("label", [one.name for one in self.label])):
            if len(set(names)) != len(names):
                raise ValueError(f"every {what} needs a name of its own, got {names}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _share(cls, data: Any) -> Any:
        """Pass store, generator and data set on to the jobs."""
        if not isinstance(data, Mapping):
            return data
        data = dict(data)
        shared = {key: data[key] for key in ("store", "generator") if key in data}
        for step in STEPS:
            jobs = data.get(step)
            if jobs is None:
                continue
            more = {"dataset": data["dataset"]} if step in ("align", "invert") and "dataset" in data else {}
            if step == "invert" and data.get("align") is not None and "store" in data:
                more = {"dataset": _aligned(data["store"], data["align"])}
            given = shared if step not in ("fit", "align") else {k: v for k, v in shared.items() if k == "store"}
            merge = lambda job, more=more, given=given: (  # noqa: E731
                {**given, **more, **job} if isinstance(job, Mapping) else job
            )
            data[step] = [merge(j) for j in jobs] if isinstance(jobs, list | tuple) else merge(jobs)
        return data

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema does not require of a job what the chain provides, so Prefect's form asks for it only once."""
        made = handler(schema)
        properties = handler.resolve_ref_schema(made)["properties"]
        for step in STEPS:
            options = properties[step].get("anyOf") or [properties[step]["items"]]
            for job in (handler.resolve_ref_schema(each) for each in options if "$ref" in each):
                job["required"] = [name for name in job.get("required", ()) if name not in ("store", "dataset")]
        return made


def _aligned(store: str, job: AlignJob | Mapping[str, Any]) -> dict[str, str]:
    """The data set of what a job aligns."""
    name = job.name if isinstance(job, AlignJob) else str(job.get("name", AlignJob.model_fields["name"].default))
    return {"url": aligned(open_store(store), name).url}


def load_chain(name: str, **shared: Any) -> ChainJob:
    """A chain by name (``configs/chains/<name>.yaml``) or YAML path, with ``store``, ``dataset``, ... filled in."""
    path = config_path("chains", name)
    return validate(ChainJob, {**load_yaml(path), **shared}, path.name)


def run_chain(job: ChainJob) -> dict[str, Any]:
    """The body of the flow: every step as a Prefect task, all on one pool. Returns the result of each step by its name."""
    results: dict[str, Any] = {}
    for inversion in job.invert:  # what is quick to refuse is refused before the first step, not hours later
        method_config(inversion.method, **inversion.overrides)
    with cancel_watch() as cancelled, open_pools(job.engine, ProgressArtifact, cancelled) as pools:
        for name, run, step_job in _steps(job):
            results[name] = run_as_task(run, step_job, pools, name)
            if name == "align" and job.invert:
                check_faces(results[name])
        if job.report:
            markdown("report", f"[{results['report']['report']}]({results['report']['report']})", "The report")
    table("steps", [{"step": k, **{n: str(v) for n, v in r.items()}} for k, r in results.items()], "What was done")
    return results


def _steps(job: ChainJob) -> Iterator[tuple[str, Callable[[Any, Pools], dict[str, Any]], Any]]:
    """Name, function and job of each step of a chain, in order."""
    if job.sample:
        yield "sample", run_sample, job.sample
    for label in job.label:
        yield f"label-{label.name}", run_label, label
    for fit in job.fits:
        yield "fit" if job.fits == (job.fit,) else f"fit-{fit.name}", run_fit, fit
    for training in job.train:
        yield f"train-{training.collection_name}", run_train, training
    if job.align:
        yield "align", run_align, job.align
    for inversion in job.invert:
        yield f"invert-{inversion.collection_name}", run_invert, inversion
    for edit in job.edit:
        yield f"edit-{edit.name}", run_edit, edit
    for pasting in job.paste:
        yield f"paste-{pasting.collection_name}", run_paste, pasting
    for evaluation in job.evaluate:
        yield f"evaluate-{evaluation.latents}", run_evaluate, evaluation
    if job.report:
        yield "report", run_report, job.report


chain = as_flow(run_chain, "chain")
