"""What an inversion's rows and provenance say beside the code: numbers without noise maps, and every encoder involved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ganinv.generators.files import open_generator
from ganinv.methods.files import open_inverter, save_inverter
from ganinv.stages.method import load_method
from ganinv.store import open_store
from ganinv.target import Target
from tasks.engine import Engine, open_pools
from tasks.sources import DatasetRef
from tasks.steps.invert import InvertJob, plan_invert, run_invert

JUDGED = """
name: judged
summary: W+ that an encoder judges
space: w+
stages:
  - kind: optimize
    space: w+
    start: mean
    steps: 1
    loss: {distance_weight: 0.0, mse_weight: 1.0, domain: {encoder: ENCODER, weight: 1.0, of: rendering}}
"""
STARTED = JUDGED.replace("stages:", "stages:\n  - {kind: encode, encoder: e4e}").replace("start: mean", "start: code")


@pytest.fixture(scope="module")
def faces(demo_pictures: Path) -> DatasetRef:
    return DatasetRef(url=str(demo_pictures), limit=2)


@pytest.mark.seconds
def test_numbers_without_the_noise_maps_are_columns(tmp_path: Path, faces: DatasetRef) -> None:
    short = {"stages": {0: {"steps": 3}, 1: {"steps": 8}}}
    job = InvertJob(
        store=str(tmp_path),
        dataset=faces,
        method="image2stylegan-plus-plus",
        overrides=short,
        record={"dtype": "float32"},
    )
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        run_invert(job, pools)
    table = open_store(job.store).latents["image2stylegan-plus-plus"].read()
    dataset, g = faces.open(), open_generator()
    loaded = dataset.load(table["image_id"].to_pylist(), g.resolution)
    inversion = load_method("image2stylegan-plus-plus", g, **short).invert(Target(loaded.images, loaded.ids))
    for name in ("mse_plain", "psnr_plain", "distance_plain"):
        assert table[name].to_pylist() == pytest.approx(inversion.metrics[name], rel=1e-3), name
    assert all(plain > mse for plain, mse in zip(table["mse_plain"].to_pylist(), table["mse"].to_pylist(), strict=True))


@pytest.mark.seconds
def test_codes_without_noise_maps_have_no_such_columns(tmp_path: Path, faces: DatasetRef) -> None:
    job = InvertJob(store=str(tmp_path), dataset=faces, method="e4e")
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        run_invert(job, pools)
    names = open_store(job.store).latents["e4e"].read().schema.names
    assert not [name for name in names if name.endswith("_plain")]


@pytest.mark.seconds
def test_an_encoder_that_only_judges_is_in_the_plan(tmp_path: Path, faces: DatasetRef) -> None:
    g = open_generator()
    shipped = open_inverter("e4e", generator=g)
    other = open_inverter("e4e", generator=g)
    with torch.no_grad():
        next(iter(other.parameters())).add_(0.1)
    save_inverter(other, str(tmp_path / "other"), generator=g)
    changed = open_inverter(str(tmp_path / "other"), generator=g).fingerprint
    assert changed != shipped.fingerprint

    def planned(text: str, named: str, **more: Any) -> dict[str, object]:
        path = tmp_path / "method.yaml"
        path.write_text(text.replace("ENCODER", named))
        plan = plan_invert(InvertJob(store=str(tmp_path), dataset=faces, method=str(path), **more))
        said = {name: one["fingerprint"] for name, one in plan.provenance["encoders"].items()}
        assert said == plan.config["encoders"]
        return said

    elsewhere = str(tmp_path / "other")
    assert planned(JUDGED, "e4e") == {"e4e": shipped.fingerprint}
    assert planned(JUDGED, elsewhere) == {elsewhere: changed}
    assert planned(JUDGED, "e4e", encoders={"e4e": elsewhere}) == {"e4e": changed}
    assert planned(STARTED, elsewhere) == {"e4e": shipped.fingerprint, elsewhere: changed}

    save_inverter(other, str(tmp_path / "encoders" / "e4e"), generator=g)  # trained in this store, under the same name
    assert planned(JUDGED, "e4e") == {"e4e": changed}
