"""Steps as Prefect tasks, on a real server that lives as long as the test run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from flows import runtime
from flows.runtime import (
    ProgressArtifact,
    artifact_key,
    as_flow,
    as_task,
    inside_run,
    markdown,
    summary,
    table,
    worth_retrying,
)
from ganinv.errors import ConfigError, DataError, GaninvError, StoreUnavailable
from tasks.pool import PoolError, UnitReport
from tasks.summary import TEXT


class SquareJob(BaseModel):
    numbers: list[int]
    failures: list[str] = []


def run_square(job: SquareJob) -> dict[str, Any]:
    """A step: fails as often as the job says, then works."""
    if job.failures:
        kind = job.failures.pop(0)
        raise {"data": DataError("no such folder"), "bug": ValueError("by chance")}[kind]
    with ProgressArtifact("Square of Numbers", len(job.numbers)) as progress:
        for number in job.numbers:
            progress.report(UnitReport(number, 1, 0, 0.1))
    table("squares", [{"number": n, "square": n * n} for n in job.numbers])
    markdown("squares-report", "# Squares")
    return {"sum": sum(n * n for n in job.numbers), "inside": inside_run()}


square = as_task(run_square, "square", retry_pauses=(0.0, 0.0))


def run_squares(job: SquareJob) -> dict[str, Any]:
    return square(job)


squares = as_flow(run_squares, "squares")


@pytest.mark.usefixtures("local_prefect")
class TestOnServer:
    def test_a_flow_runs_in_this_process_and_leaves_artifacts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from prefect.artifacts import Artifact

        monkeypatch.setattr(runtime, "ARTIFACT_PAUSE", 0.0)
        assert squares(SquareJob(numbers=[1, 2, 3])) == {"sum": 14, "inside": True}
        progress = Artifact.get("square-of-numbers")
        assert progress is not None
        assert progress.data == 100.0
        assert progress.description == "3 of 3 images, 0 failed"
        assert Artifact.get("squares") is not None
        assert Artifact.get("squares-report") is not None

    def test_the_summary_beside_a_collection_is_an_artifact(self, tmp_path: Path) -> None:
        from prefect.artifacts import Artifact

        url = tmp_path / "squares" / "a"
        url.mkdir(parents=True)
        (url / TEXT).write_text("# squares/a")

        def run_summary() -> None:
            summary({"collection": "squares/a", "url": str(url)})
            summary({"collection": "squares/none", "url": str(tmp_path)})  # a step that had nothing to do

        as_flow(run_summary, "summary")()
        found = Artifact.get("summary-squares-a")
        assert found is not None
        assert found.data == "# squares/a"
        assert Artifact.get("summary-squares-none") is None

    def test_an_accident_is_retried(self) -> None:
        job = SquareJob(numbers=[2], failures=["bug", "bug"])
        assert _sum_of_shared(job) == 4

    def test_an_error_on_purpose_is_not_retried(self) -> None:
        job = SquareJob(numbers=[2], failures=["data", "bug"])
        with pytest.raises(DataError, match="no such folder"):
            _sum_of_shared(job)
        assert job.failures == ["bug"]

    @pytest.mark.parametrize(("failures", "traced"), [(["data"], False), (["bug"] * 3, True)])
    def test_only_what_nobody_foresaw_leaves_a_traceback(self, failures: list[str], traced: bool) -> None:
        records: list[logging.LogRecord] = []
        handler = logging.Handler()
        handler.emit = records.append  # type: ignore[method-assign]
        logging.getLogger("prefect.flow_runs").addHandler(handler)
        try:
            with pytest.raises((DataError, ValueError)):
                _sum_of_shared(SquareJob(numbers=[2], failures=failures))
        finally:
            logging.getLogger("prefect.flow_runs").removeHandler(handler)
        failed = [record for record in records if "Encountered exception" in record.getMessage()]
        assert [bool(record.exc_info) for record in failed] == [traced]


def _sum_of_shared(job: SquareJob) -> int:
    """Run in a flow whose parameters Prefect does not copy, so that the job can count down its failures."""
    return as_flow(lambda: square(job)["sum"], "shared")()


def test_outside_a_run_nothing_is_written_and_the_step_is_a_plain_function() -> None:
    assert run_square(SquareJob(numbers=[3])) == {"sum": 9, "inside": False}


def test_a_task_caches_and_stores_nothing() -> None:
    from prefect.cache_policies import NO_CACHE

    task = as_task(run_square, "square")
    assert task.cache_policy is NO_CACHE
    assert task.persist_result is False
    assert task.retries == 2
    assert task.retry_delay_seconds == [10.0, 60.0]


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ConfigError("x"), False),
        (PoolError("x"), False),
        (GaninvError("x"), False),
        (StoreUnavailable("x"), True),
        (OSError("x"), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_worth_a_retry(error: Exception, again: bool) -> None:
    class State:
        def result(self) -> None:
            raise error

    assert worth_retrying(None, None, State()) is again  # type: ignore[arg-type]


def test_artifact_keys() -> None:
    assert artifact_key("Invert FFHQ_256/e4e") == "invert-ffhq-256-e4e"
    assert artifact_key("...") == "ganinv"
