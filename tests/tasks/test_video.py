"""Frames of a video, inverted together: one unit a folder, one generator, smoothed codes, flicker measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from ganinv.errors import ConfigError, RunConflict
from ganinv.store import open_store
from tasks.engine import Engine, open_pools
from tasks.sources import DatasetRef
from tasks.steps.edit import EditJob, run_edit
from tasks.steps.evaluate import EvaluateJob, run_evaluate
from tasks.steps.invert import InvertJob, plan_invert, run_invert

FEW = {"stages": {1: {"steps": 12}, 3: {"steps": 6}}}
BRIEF = {"stages": {1: {"steps": 2}, 3: {"steps": 2}}}
"""Where what comes of it is not looked at."""


def video(folder: Path, count: int, seed: int = 0) -> None:
    """An astronaut's face, slowly moved and zoomed, with a camera's noise."""
    folder.mkdir(parents=True)
    rng, photo = np.random.default_rng(seed), Image.fromarray(skimage.data.astronaut())
    for k in range(count):
        angle = 2 * np.pi * k / 12
        side = 170 * (1 + 0.02 * np.sin(angle))
        x, y = 140 + 2 * np.sin(angle), 22 + 2 * np.cos(angle)
        frame = np.asarray(photo.resize((64, 64), Image.Resampling.LANCZOS, box=(x, y, x + side, y + side)), np.float32)
        noisy = np.clip(frame + rng.normal(0, 2, frame.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"frame-{k + 1}.png")  # frame-2 comes before frame-10


def job_of(tmp_path: Path, **more: Any) -> InvertJob:
    fields = {
        "store": str(tmp_path / "store"),
        "dataset": DatasetRef(url=str(tmp_path / "frames")),
        "method": "pti-video",
    }
    return InvertJob.model_validate({**fields, "overrides": FEW, **more})


def invert(job: InvertJob, **engine: Any) -> dict[str, Any]:
    with open_pools(Engine(kind="inline", quiet=True, **engine)) as pools:
        return run_invert(job, pools)


def evaluate(job: EvaluateJob) -> dict[str, Any]:
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        return run_evaluate(job, pools)


@pytest.mark.seconds
def test_a_folder_is_a_unit_and_its_limit_is_told(tmp_path: Path) -> None:
    video(tmp_path / "frames/anna", 11)
    video(tmp_path / "frames/ben", 2)
    plan = plan_invert(job_of(tmp_path))
    assert [{i.partition("/")[0] for i in unit.ids} for unit in plan.units] == [{"anna"}, {"ben"}]
    assert [len(unit.ids) for unit in plan.units] == [11, 2]
    with pytest.raises(
        ConfigError, match="anna has 11 frames, and at most 5 are held in memory together: cut it into scenes"
    ):
        plan_invert(job_of(tmp_path, unit_size=5))
    video(tmp_path / "frames/anna/frame-1", 1)
    with pytest.raises(ConfigError, match="anna has frames, and folders with frames between them"):
        plan_invert(job_of(tmp_path))


@pytest.mark.slow
def test_frames_share_a_generator_and_smoothing_takes_flicker_away(tmp_path: Path) -> None:
    """By more than a tenth of the photos' own change, at a distance to the frames that is at most 5 % larger."""
    video(tmp_path / "frames", 12)
    store, found = open_store(str(tmp_path / "store")), {}
    for sigma in (0.0, 1.0):
        name = f"sigma-{sigma:g}"
        job = job_of(tmp_path, name=name, overrides={"stages": {**FEW["stages"], 2: {"sigma": sigma}}})
        assert invert(job)["rows"] == 12
        rows = store.latents[name].read()
        assert len(set(rows["extras_uri"].to_pylist())) == 1, "one tuned generator, written once"
        result = evaluate(EvaluateJob(store=job.store, latents=name, frames=True))
        table = store.collection("flicker", name).read()
        assert table["image_id"].to_pylist() == rows["image_id"].to_pylist()
        assert table["change"].null_count == table["source_change"].null_count == 1
        found[sigma] = result["flicker"]["flicker"], float(np.mean(rows["distance"].to_numpy()))
    own = float(np.nanmean(table["source_change"].to_numpy()))
    assert found[1.0][0] < found[0.0][0] - 0.1 * own
    assert found[1.0][1] < 1.05 * found[0.0][1]


@pytest.mark.seconds
def test_a_frame_that_fails_or_comes_later_is_not_tuned_apart(tmp_path: Path) -> None:
    video(tmp_path / "frames/anna", 3)
    good = (tmp_path / "frames/anna/frame-2.png").read_bytes()
    (tmp_path / "frames/anna/frame-2.png").write_bytes(good[:200])
    Image.new("RGB", (40, 80)).save(tmp_path / "frames/anna/frame-4.png")
    job = job_of(tmp_path, name="few", overrides=BRIEF)
    done = invert(job)
    assert (done["rows"], done["failed"]) == (3, 1)
    (tmp_path / "frames/anna/frame-2.png").write_bytes(good)
    invert(job, retry_failed=True)
    latents = open_store(job.store).latents["few"]
    (error,) = latents.errors().to_pylist()
    assert error["code"] == "apart"
    assert "it came with 1 of the 4 frames of its video" in error["message"]
    assert latents.read().num_rows == 3
    video(tmp_path / "frames/ben", 1)
    with pytest.raises(RunConflict, match="1 images came and 0 went"):
        invert(job)
    invert(job_of(tmp_path, name="ben", overrides=BRIEF, dataset=DatasetRef(url=str(tmp_path / "frames/ben"))))
    with pytest.raises(ConfigError, match="no folder with two frames"):
        evaluate(EvaluateJob(store=job.store, latents="ben", frames=True))


@pytest.mark.seconds
def test_flicker_of_edits_is_told_by_edit(tmp_path: Path) -> None:
    video(tmp_path / "frames", 3)
    job = job_of(tmp_path, method="e4e", overrides={})
    invert(job)
    edits = [{"name": "smile", "directions": {"smile": 1.0}, "strengths": [0.0, 2.0]}]
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        run_edit(EditJob.model_validate({"store": job.store, "latents": "e4e", "edits": edits}), pools)
    result = evaluate(EvaluateJob(store=job.store, latents="e4e", edits="edits", frames=True))
    assert set(result) == {"latents", "edits", "flicker", "edit-flicker"}
    told = result["edit-flicker"]["flicker"]
    assert set(told) == {"smile@0", "smile@2"}
    assert told["smile@0"] == pytest.approx(result["flicker"]["flicker"], abs=1e-4)
    assert not torch.tensor(list(told.values())).isnan().any()
