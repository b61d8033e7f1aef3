"""The whole chain as one flow: sample -> fit -> train -> invert -> edit -> evaluate -> report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import model_validator

from flows.runtime import ProgressArtifact, as_flow, as_task, markdown, table
from ganinv.config import StrictModel, config_path, load_yaml, validate
from ganinv.generators.files import EMBEDDED
from tasks.edit import EditJob, run_edit
from tasks.engine import Engine, Pools, open_pools
from tasks.evaluate import EvaluateJob, run_evaluate
from tasks.fit import FitJob, run_fit
from tasks.invert import DatasetRef, InvertJob, run_invert
from tasks.report import ReportJob, run_report
from tasks.sample import SampleJob, run_sample
from tasks.train import TrainJob, run_train


class ChainJob(StrictModel):
    """The jobs of a chain. ``store``, ``generator`` and ``dataset`` given here hold for every step that does not say
    otherwise; steps that are absent are not run. A trained encoder is used by the inversions after it."""

    store: str
    dataset: DatasetRef
    generator: str = EMBEDDED
    engine: Engine = Engine()
    sample: SampleJob | None = None
    fit: FitJob | None = None
    train: TrainJob | None = None
    invert: tuple[InvertJob, ...] = ()
    edit: tuple[EditJob, ...] = ()
    evaluate: tuple[EvaluateJob, ...] = ()
    report: ReportJob | None = None

    @model_validator(mode="before")
    @classmethod
    def _share(cls, data: Any) -> Any:
        """Hand store, generator and data set down to the jobs."""
        if not isinstance(data, Mapping):
            return data
        data = dict(data)
        shared = {key: data[key] for key in ("store", "generator") if key in data}
        for step in ("sample", "fit", "train", "invert", "edit", "evaluate", "report"):
            jobs = data.get(step)
            if jobs is None:
                continue
            more = {"dataset": data["dataset"]} if step == "invert" and "dataset" in data else {}
            given = shared if step != "fit" else {k: v for k, v in shared.items() if k == "store"}
            merge = lambda job, more=more, given=given: (  # noqa: E731
                {**given, **more, **job} if isinstance(job, Mapping) else job
            )
            data[step] = [merge(j) for j in jobs] if isinstance(jobs, list | tuple) else merge(jobs)
        return data


def load_chain(name: str, **shared: Any) -> ChainJob:
    """A chain by name (``configs/chains/<name>.yaml``) or YAML path, with ``store``, ``dataset``, ... filled in."""
    path = config_path("chains", name)
    return validate(ChainJob, {**load_yaml(path), **shared}, path.name)


def run_chain(job: ChainJob) -> dict[str, Any]:
    """The body of the flow: every step as a Prefect task, all on one pool."""
    results: dict[str, Any] = {}
    with open_pools(job.engine, watch=ProgressArtifact) as pools:
        if job.sample:
            results["sample"] = _step("sample", run_sample, job.sample, pools)
        if job.fit:
            results["fit"] = _step("fit", run_fit, job.fit, pools)
        if job.train:
            results["train"] = _step("train", run_train, job.train, pools)
        for each in job.invert:
            if job.train and each.encoder is None:
                each = each.model_copy(update={"encoder": job.train.encoder_url})
            name = f"invert-{each.collection_name}"
            results[name] = _step(name, run_invert, each, pools)
        for edit in job.edit:
            results[f"edit-{edit.name}"] = _step(f"edit-{edit.name}", run_edit, edit, pools)
        for evaluation in job.evaluate:
            name = f"evaluate-{evaluation.latents}"
            results[name] = _step(name, run_evaluate, evaluation, pools)
        if job.report:
            results["report"] = _step("report", run_report, job.report, pools)
            markdown("report", f"[{results['report']['report']}]({results['report']['report']})", "The report")
    table("steps", [{"step": k, **{n: str(v) for n, v in r.items()}} for k, r in results.items()], "What was done")
    return results


def _step(name: str, run: Callable[[Any, Pools], dict[str, Any]], job: Any, pools: Pools) -> dict[str, Any]:
    # The pool is closed over: a connection is no parameter that Prefect should see.
    def body(job: Any) -> dict[str, Any]:
        return run(job, pools)

    return as_task(body, name)(job)


chain = as_flow(run_chain, "chain")
