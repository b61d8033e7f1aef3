"""Scheduled refits: new versions, what they changed, as a Prefect artifact and in the direction's report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.refit import refit_directions
from ganinv.directions.fitting.boundaries import Boundaries
from ganinv.directions.fitting.components import Components
from ganinv.directions.measuring.calibration import CalibrationConfig
from ganinv.store import open_store
from tasks.engine import Engine, open_pools
from tasks.steps.fit import FitJob, run_fit
from tasks.steps.refit import RefitJob
from tasks.steps.sample import SampleJob, run_sample

INLINE = Engine(kind="inline", quiet=True)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with 120 samples and a first version of two directions and a component."""
    store = str(tmp_path_factory.mktemp("refit") / "store")
    with open_pools(INLINE) as pools:
        run_sample(SampleJob(store=store, count=120), pools)
        run_fit(fit_job(store), pools)
    return store


def fit_job(store: str) -> FitJob:
    methods = (Boundaries(tails=0.25, estimator="ridge"), Components(components=1))
    plain = CalibrationConfig(samples=0)
    return FitJob(store=store, attributes=("smile", "age"), methods=methods, calibration=plain)


def refit(store: str, **more: Any) -> dict[str, Any]:
    result: dict[str, Any] = refit_directions(RefitJob(fit=fit_job(store), **more), INLINE)
    return result


@pytest.mark.slow
@pytest.mark.usefixtures("local_prefect")
def test_refits(fitted: str) -> None:
    from prefect.artifacts import Artifact

    store = open_store(fitted)
    same = refit(fitted)
    assert same["refit"] == 1
    assert [(row["direction"], row["version"], row["new"]) for row in same["directions"]] == [
        ("age", 1, False),
        ("pca-00", 1, False),
        ("smile", 1, False),
    ]
    artifact = Artifact.get("refit-directions-changes")
    assert artifact is not None
    assert "**smile** version 1: unchanged" in str(artifact.data)

    result = refit(fitted, sample=SampleJob(store=fitted, count=150), measured=6)
    assert (result["refit"], result["samples"], result["failed"]) == (2, "samples-0002", 0)
    assert [(row["version"], row["previous"], row["new"]) for row in result["directions"]] == [(2, 1, True)] * 3
    assert store.samples["samples-0002"].plan().config["seed"] == 2

    new, old = store.directions.get("smile"), store.directions.get("smile", version=1)
    changes = new.report["changes"]
    assert new.version == 2
    assert changes["previous"] == 1
    cosine = float(new.vector @ old.vector)
    assert changes["cosine"] == pytest.approx(cosine, abs=1e-5)
    assert 0.1 < cosine < 0.999
    assert changes["left"] == pytest.approx((1 - cosine**2) ** 0.5, abs=1e-4)
    assert changes["validation_accuracy"] == [old.report["validation_accuracy"], new.report["validation_accuracy"]]
    assert changes["samples"] == [120, 150]
    before, after = changes["effects"]["smile"]
    assert before > 0.05  # standard deviations per step, rendered and scored
    assert after > 0.05
    assert {"age", "smile"} <= changes["effects"].keys()
    assert "changes" not in old.report

    artifact = Artifact.get("refit-directions-changes")
    assert artifact is not None
    line = next(text for text in str(artifact.data).splitlines() if "**smile**" in text)
    assert f"version 2, after 1: cosine {cosine:.4f}" in line
    assert f"smile {before:.3f} -> {after:.3f}" in line
    table = Artifact.get("refit-directions")
    assert table is not None
    assert '"direction": "smile"' in str(table.data)


@pytest.mark.slow
def test_an_interrupted_refit_is_gone_on_with(fitted: str) -> None:
    from tasks.steps.refit import run_refit

    job = RefitJob(fit=fit_job(fitted).model_copy(update={"name": "again"}), measured=0)
    job = job.model_copy(update={"sample": SampleJob(store=fitted, name="fresh", count=100, seed=50)})
    store = open_store(fitted)
    with open_pools(INLINE) as pools:
        first = run_refit(job, pools)
        versions = [(row["direction"], row["version"]) for row in first["directions"]]
        # As if the process had ended before its last part and the manifest were written.
        folder = Path(store.collection("fits", "again-0001").url)
        (folder / "_manifest.json").unlink()
        (folder / "part-00002.parquet").unlink()
        again = run_refit(job, pools)
        assert again["refit"] == 1
        assert [(row["direction"], row["version"]) for row in again["directions"]] == versions
        assert all(row["new"] for row in again["directions"])
        assert run_refit(job, pools)["refit"] == 2
    assert "effects" not in store.directions.get("smile", version=dict(versions)["smile"]).report["changes"]


@pytest.mark.seconds
def test_the_first_version_has_nothing_before_it(tmp_path: Path) -> None:
    from tasks.steps.refit import run_refit

    store = str(tmp_path / "s")
    job = RefitJob(fit=fit_job(store), sample=SampleJob(store=store, count=100), measured=4)
    with open_pools(INLINE) as pools:
        result = run_refit(job, pools)
    assert [set(row) for row in result["directions"]] == [{"direction", "version", "new"}] * 3
    assert "changes" not in open_store(store).directions.get("smile").report
