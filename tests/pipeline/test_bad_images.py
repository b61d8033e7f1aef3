"""Five hundred images, thirty-one of them bad in thirty-one ways, through the whole inversion."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganinv.store import open_store
from tasks.engine import Engine, open_pools
from tasks.sources import DatasetRef
from tasks.steps.invert import InvertJob, run_invert
from tests.data.bad_images import put_bad_files
from tests.data.pictures import encoded, noise


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_bad_images_are_errors_and_all_others_are_inverted(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    codes = put_bad_files(folder)
    for seed in range(500 - len(codes)):
        (folder / f"good-{seed:03d}.png").write_bytes(encoded(noise(4, 4, seed).resize((64, 64))))
    job = InvertJob(store=f"{tmp_path}/s", dataset=DatasetRef(url=str(folder)), method="e4e")
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        result = run_invert(job, pools)
    latents = open_store(job.store).latents["e4e"]
    sources = job.dataset.open().sources
    failed = {Path(sources[row["image_id"]].path).name: row["code"] for row in latents.errors().to_pylist()}
    assert failed == codes
    assert {row["attempts"] for row in latents.errors().to_pylist()} == {1}
    assert latents.read(["image_id"])["image_id"].to_pylist() == [f"good-{seed:03d}" for seed in range(469)]
    assert (result["rows"], result["failed"]) == (469, 31)


@pytest.mark.seconds
def test_images_that_failed_are_tried_again_on_request_only(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.png").write_bytes(encoded(noise(64, 64)))
    (folder / "late.png").write_bytes(b"")
    (folder / "never.png").write_bytes(b"<html>")
    job = InvertJob(store=f"{tmp_path}/s", dataset=DatasetRef(url=str(folder)), method="e4e")
    latents = open_store(job.store).latents["e4e"]

    def run(retry_failed: bool) -> tuple[list[str], list[tuple[str, int]]]:
        with open_pools(Engine(kind="inline", quiet=True, retry_failed=retry_failed)) as pools:
            result = run_invert(job, pools)
        rows = latents.read(["image_id"])["image_id"].to_pylist()
        errors = [(row["image_id"], row["attempts"]) for row in latents.errors().to_pylist()]
        assert (result["rows"], result["failed"]) == (len(rows), len(errors))
        return rows, errors

    assert run(False) == (["good"], [("late", 1), ("never", 1)])
    (folder / "late.png").write_bytes(encoded(noise(64, 64, 1)))
    assert run(False) == (["good"], [("late", 1), ("never", 1)])
    assert run(True) == (["good", "late"], [("never", 2)])
    status = latents.status()
    assert (status.planned, status.done, status.failed, status.left) == (3, 2, 1, 0)
