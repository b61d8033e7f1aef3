"""What others do with a store: SQL over its rows, training data of its edits, Hugging Face datasets, and a notebook."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ganinv.directions.measuring.calibration import CalibrationConfig
from ganinv.generators.files import open_generator
from ganinv.store import open_store, tensor_numpy
from tasks.engine import Engine, open_pools
from tasks.jobs.dataset import DatasetRef
from tasks.steps.edit import EditJob, EditSpec, run_edit
from tasks.steps.fit import FitJob, run_fit
from tasks.steps.invert import InvertJob, run_invert
from tasks.steps.sample import SampleJob, run_sample
from tests.artefacts import made_once

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
pytestmark = pytest.mark.seconds


@pytest.fixture(autouse=True)
def beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.syspath_prepend(str(EXAMPLES))


def make(folder: Path, pictures: Path) -> None:
    """Twelve portraits by two methods, a direction for smiles, and edits along it."""
    store = str(folder)
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        for method in ("e4e", "sfe"):
            run_invert(InvertJob(store=store, dataset=DatasetRef(url=str(pictures), limit=12), method=method), pools)
        run_sample(SampleJob(store=store, count=300), pools)
        run_fit(FitJob(store=store, attributes=("smile",), calibration=CalibrationConfig(samples=4)), pools)
        smiles = EditSpec(name="smile", directions={"smile": 1.0}, strengths=(-2.0, 0.0, 2.0))
        run_edit(EditJob(store=store, latents="e4e", name="smiles", edits=(smiles,)), pools)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, demo_pictures: Path) -> str:
    return str(made_once(tmp_path_factory, "examples", lambda folder: make(folder, demo_pictures)))


def example(name: str) -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


@pytest.mark.slow
def test_hard_images_by_duckdb(store: str) -> None:
    rows = open_store(store).latents["e4e"].read(["image_id", "mse"])
    worst = rows.sort_by([("mse", "descending")])["image_id"].to_pylist()
    found = example("hard_images")["hard_images"](store, "e4e", 0.25).fetchall()
    assert [image_id for image_id, *_ in found] == worst[:3]
    assert found[0][2] > 1
    both = example("hard_images")["where_it_helps"](store, "sfe", "e4e").fetchall()
    assert len(both) == 12
    assert both[-1][3] < 0.8  # the image that features help most


@pytest.mark.slow
def test_training_data_that_is_balanced_by_edits(store: str) -> None:
    module, g = example("balanced_classifier"), open_generator()
    faces = module["EditedFaces"](open_store(store), "smiles", g)
    assert len(faces) == 24
    assert sum(label for _, label in faces) == 12
    image, _ = faces[0]
    assert image.shape == (3, g.resolution, g.resolution)
    assert len({image_id for image_id, *_ in faces.items}) == 12
    _, right = module["train"](faces)
    assert right > 0.8


@pytest.mark.slow
def test_hugging_face_datasets_read_latents(store: str, tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the extra `huggingface` is not installed")
    module, g = example("hugging_face"), open_generator()
    rows = module["load_latents"](store, "e4e", str(tmp_path))
    table = open_store(store).latents["e4e"].read()
    assert [row["image_id"] for row in rows] == table["image_id"].to_pylist()
    assert rows[0]["w"].shape == (g.num_ws, g.w_dim)
    w = torch.stack([row["w"] for row in rows])
    np.testing.assert_array_equal(w.numpy(), tensor_numpy(table["w"]))
    assert module["pictures"](rows.select(range(2)), g).shape == (2, 3, g.resolution, g.resolution)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="the extra `notebook` is not installed")
    pytest.importorskip("ipykernel", reason="the extra `notebook` is not installed")
    import nbformat

    notebook = nbformat.read(shutil.copy(EXAMPLES / "first_look.ipynb", tmp_path), as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "the notebook is kept without outputs"
    monkeypatch.setenv("GANINV_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert "latents/pti 2 rows, 0 failed" in "".join(output.get("text", "") for output in shown)
    store = open_store(str(tmp_path / "store"))
    assert {each["name"] for each in store.directions.list()} >= {"smile", "age"}
