"""Each step as a flow of its own, for deployments and schedules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flows.cancelling import cancel_watch
from flows.runtime import ProgressArtifact, as_flow, run_as_task
from tasks.engine import Engine, Pools, open_pools
from tasks.steps.align import AlignJob, run_align
from tasks.steps.compress import CompressJob, run_compress
from tasks.steps.edit import EditJob, run_edit
from tasks.steps.evaluate import EvaluateJob, run_evaluate
from tasks.steps.fill import FillJob, run_fill
from tasks.steps.fit import FitJob, run_fit
from tasks.steps.invert import InvertJob, run_invert
from tasks.steps.label import LabelJob, run_label
from tasks.steps.paste import PasteJob, run_paste
from tasks.steps.report import ReportJob, run_report
from tasks.steps.sample import SampleJob, run_sample
from tasks.steps.train import TrainJob, run_train


def run_step(run: Callable[[Any, Pools], dict[str, Any]], job: Any, engine: Engine, name: str) -> dict[str, Any]:
    """One step on a pool of its own, as a task of the flow that calls it."""
    with cancel_watch() as cancelled, open_pools(engine, ProgressArtifact, cancelled) as pools:
        return run_as_task(run, job, pools, name)


def _sample(job: SampleJob, engine: Engine = Engine()) -> dict[str, Any]:  # noqa: B008  # frozen
    return run_step(run_sample, job, engine, "sample")


def _label(job: LabelJob, engine: Engine = Engine()) -> dict[str, Any]:  # noqa: B008
    return run_step(run_label, job, engine, "label")


def _fit(job: FitJob, engine: Engine = Engine()) -> dict[str, Any]:  # noqa: B008
    return run_step(run_fit, job, engine, "fit")


def _train(job: TrainJob, engine: Engine = Engine()) -> dict[str, Any]:  # noqa: B008
    return run_step(run_train, job, engine, "train")


def _align(job: AlignJob, engine: Engine = Engine()) -> dict[str, Any]:  # noqa: B008
    return run_step(run_align, job, engine, "align")


def _invert(job: InvertJob, engine: Engine = Engine()) -> dict[str, Any]:  # noqa: B008
    return run_step(run_invert, job, engine, "invert")


def _fill(job: FillJob, engine: Engine = Engine()) -> dict[str, Any]:  # noqa: B008
    return run_step(run_fill, job, engine, "fill")


def _compress(job: CompressJob, engine: Engine = Engine()) -> dict[str, Any]:  # noqa: B008
    return run_step(run_compress, job, engine, "compress")


def _edit(job: EditJob, engine: Engine = Engine()) -> dict[str, Any]:  # noqa: B008
    return run_step(run_edit, job, engine, "edit")


def _paste(job: PasteJob, engine: Engine = Engine()) -> dict[str, Any]:  # noqa: B008
    return run_step(run_paste, job, engine, "paste")


def _evaluate(job: EvaluateJob, engine: Engine = Engine()) -> dict[str, Any]:  # noqa: B008
    return run_step(run_evaluate, job, engine, "evaluate")


def _report(job: ReportJob, engine: Engine = Engine()) -> dict[str, Any]:  # noqa: B008
    return run_step(run_report, job, engine, "report")


sample = as_flow(_sample, "sample")
label = as_flow(_label, "label")
fit = as_flow(_fit, "fit")
train = as_flow(_train, "train")
align = as_flow(_align, "align")
invert = as_flow(_invert, "invert")
fill = as_flow(_fill, "fill")
compress = as_flow(_compress, "compress")
edit = as_flow(_edit, "edit")
paste = as_flow(_paste, "paste")
evaluate = as_flow(_evaluate, "evaluate")
report = as_flow(_report, "report")
