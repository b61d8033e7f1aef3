"""Where a job reads and writes: the same place is the same, however it is spelled, and no place is an error."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from ganinv.errors import ConfigError, StoreError
from ganinv.store import Plan, open_store
from tasks.engine import Engine, open_pools, run_units
from tasks.jobs.dataset import DatasetRef
from tasks.pool import WorkerSpec
from tasks.same_run import comparable
from tasks.steps.report import ReportJob, run_report
from tests.tasks.workers import StoringWorker
from tests.tiny import tiny_generator


@pytest.mark.parametrize("said", ["{0}", "{0}/", "file://{0}", "file://{0}/", "photos", "./photos/"])
def test_a_folder_is_the_same_however_it_is_spelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert DatasetRef(url=said.format(tmp_path / "photos")).url == str(tmp_path / "photos")


@pytest.mark.parametrize(
    "url", ["s3://bucket/photos", "memory://photos", "zip://*.png::photos.zip", "https://host/a%20b.tar"]
)
def test_urls_of_other_file_systems_stay(url: str) -> None:
    assert DatasetRef(url=url).url == url


def test_globs_and_odd_names_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ph#oto %20s/*.jpg", "a[b]c", "a b.tar"):
        assert DatasetRef(url=name).url == f"{tmp_path}/{name}"


def test_a_plan_with_a_relative_folder_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As versions before this one wrote it."""
    monkeypatch.chdir(tmp_path)
    old, now = ({"dataset": {"url": url, "where": {}}} for url in ("photos", f"{tmp_path}/photos"))
    assert comparable(old) == comparable(now)
    monkeypatch.chdir("/")
    assert comparable(old) != comparable(now)


@pytest.mark.parametrize("nothing", ["", " "])
def test_an_empty_text_is_no_place(nothing: str) -> None:
    with pytest.raises(ValidationError, match=r"expected a folder, a glob, .* got an empty text"):
        DatasetRef(url=nothing)
    with pytest.raises(ConfigError, match="the store has no name"):
        open_store(nothing)


def test_workers_of_ray_cannot_see_memory(tmp_path: Path) -> None:
    collection = open_store("memory://nobody").latents["x"]
    plan = Plan.of("square", {}, {}, ["a"], 1)
    with (
        open_pools(Engine(kind="ray", quiet=True)) as pools,
        pytest.raises(ConfigError, match="in this process's memory, where no worker of Ray sees it: use a folder"),
    ):
        run_units(collection, plan, WorkerSpec(StoringWorker, {"folder": str(tmp_path)}), pools, "square")
    assert not collection.exists()


def test_a_report_of_nothing_is_refused_and_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is nothing to report on in .*nowhere: no inversions"):
        run_report(ReportJob(store=str(tmp_path / "nowhere")))
    assert not (tmp_path / "nowhere").exists()


def test_a_report_can_be_written_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a store that is only read."""
    store = open_store(str(tmp_path / "store"))
    store.latents["x"].start(Plan.of("invert", {}, {}, ["a"], 1))
    monkeypatch.setattr("tasks.steps.report.write_report", lambda *given: b"<html>")
    monkeypatch.setattr("tasks.steps.report.open_generator", lambda *given: tiny_generator())
    job = ReportJob(store=store.url, latents=("x",), out=str(tmp_path / "pages" / "x.html"))
    assert run_report(job) == {"report": job.out, "bytes": 6}
    assert (tmp_path / "pages" / "x.html").read_bytes() == b"<html>"
    assert store.objects.names("reports") == []
    with pytest.raises(ConfigError, match=r"cannot write .*pages: .* Choose another file with --out"):
        run_report(job.model_copy(update={"out": str(tmp_path / "pages")}))
    (tmp_path / "store" / "reports").touch()
    with pytest.raises(StoreError, match=r"cannot write .*, or write the report to a file with --out"):
        run_report(job.model_copy(update={"out": None}))
