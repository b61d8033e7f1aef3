"""Conditional generators: sampled by class, and inverted from the mean of each image's class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from ganinv.errors import ConfigError, DataError
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.files import open_generator, save_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.stages.method import load_method
from ganinv.store import open_store, tensor_numpy
from ganinv.target import Target
from tasks.engine import Engine, open_pools
from tasks.jobs.dataset import DatasetRef
from tasks.steps.invert import InvertJob, run_invert
from tasks.steps.sample import SampleJob, run_sample
from tests.tiny import tiny_generator


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three classes, far apart in W."""
    torch.manual_seed(0)
    cfg = GeneratorConfig(resolution=32, channels=(16, 16, 16, 8), z_dim=16, w_dim=16, mapping_layers=2, c_dim=3)
    g = Generator(cfg)
    g.name = "three-classes"
    g.measure_w(1000)
    folder = str(tmp_path_factory.mktemp("g") / "three")
    save_generator(g, folder)
    return folder


@pytest.fixture(scope="module")
def g(uri: str) -> Generator:
    return open_generator(uri)


def steps(run: Any, job: Any) -> dict[str, Any]:
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        return dict(run(job, pools))


def test_samples_go_through_all_classes_or_those_that_are_named(tmp_path: Path, uri: str, g: Generator) -> None:
    store = str(tmp_path / "store")
    steps(run_sample, SampleJob(store=store, generator=uri, count=9))
    table = open_store(store).samples["samples"].read()
    assert table["class"].to_pylist() == [0, 1, 2] * 3
    steps(run_sample, SampleJob(store=store, generator=uri, count=6, classes=(2, 0), name="some"))
    some = open_store(store).samples["some"].read()
    assert some["class"].to_pylist() == [2, 0] * 3
    w = torch.from_numpy(tensor_numpy(some["w"]))
    means = torch.stack([g.class_mean(k) for k in range(3)])
    assert torch.cdist(w, means).argmin(1).tolist() == [2, 0] * 3
    for wrong, says in (((3,), "no class 3: this generator has 3"), ((-1,), "no class -1")):
        with pytest.raises(ConfigError, match=says):
            steps(run_sample, SampleJob(store=store, generator=uri, count=2, classes=wrong, name="wrong"))
    with pytest.raises(ConfigError, match="not conditional"):
        steps(run_sample, SampleJob(store=store, count=2, classes=(1,), name="wrong"))
    assert open_store(store).list("samples") == ["samples", "some"]


def table_of(faces: Path, where: Path, labels: list[Any]) -> Path:
    files = sorted(faces.iterdir())[: len(labels)]
    rows = {"image_id": [f.stem for f in files], "image": [f.read_bytes() for f in files], "label": labels}
    pq.write_table(pa.table(rows), where)
    return where


def job_of(tmp_path: Path, uri: str, dataset: Path, **more: Any) -> InvertJob:
    stage = {"kind": "optimize", "space": "w", "start": "mean", "steps": 1, "lr": 1e-9, "latent_noise": 0.0}
    method = {"name": "start", "summary": "one step of nothing", "space": "w", "stages": [stage]}
    (tmp_path / "start.yaml").write_text(yaml.safe_dump(method))
    fields = {"store": str(tmp_path / "store"), "generator": uri, "method": str(tmp_path / "start.yaml")}
    return InvertJob.model_validate({**fields, "dataset": DatasetRef(url=str(dataset)), **more})


@pytest.mark.seconds
@pytest.mark.parametrize("one_hot", [False, True])
def test_an_image_starts_from_the_mean_of_its_class(
    tmp_path: Path, uri: str, g: Generator, faces: Path, one_hot: bool
) -> None:
    labels: list[Any] = [2, 0, 7, 1]
    if one_hot:
        labels = [[float(k == label) for k in range(3)] for label in labels]
    job = job_of(tmp_path, uri, table_of(faces, tmp_path / "set.parquet", labels), class_column="label")
    result = steps(run_invert, job)
    assert (result["rows"], result["failed"]) == (3, 1)
    collection = open_store(job.store).latents["start"]
    w = tensor_numpy(collection.read()["w"])[:, 0]
    means = np.stack([g.class_mean(k).numpy() for k in (2, 0, 1)])
    np.testing.assert_allclose(w, means, atol=1e-4)
    (error,) = collection.errors().to_pylist()
    assert error["code"] == "no_class"
    assert "0 to 2" in error["message"]
    assert steps(run_invert, job)["units_computed"] == 0


@pytest.mark.seconds
def test_without_labels_it_starts_from_the_mean_of_all(tmp_path: Path, uri: str, g: Generator, faces: Path) -> None:
    job = job_of(tmp_path, uri, table_of(faces, tmp_path / "set.parquet", [0, 1]))
    steps(run_invert, job)
    w = tensor_numpy(open_store(job.store).latents["start"].read()["w"])[:, 0]
    np.testing.assert_allclose(w, np.repeat(g.w_mean.numpy()[None], 2, 0), atol=1e-4)


def test_a_column_that_is_not_there_and_a_generator_without_classes(tmp_path: Path, uri: str, faces: Path) -> None:
    dataset = table_of(faces, tmp_path / "set.parquet", [0, 1])
    with pytest.raises(DataError, match=r"no column 'labels'.*label"):
        steps(run_invert, job_of(tmp_path, uri, dataset, class_column="labels"))
    with pytest.raises(ConfigError, match="not conditional"):
        steps(run_invert, job_of(tmp_path, "portraits-64", dataset, class_column="label"))
    assert not (tmp_path / "store").exists()


def test_tuning_near_the_pivot_takes_the_classes_in_turn(g: Generator) -> None:
    g.discriminator = tiny_generator().discriminator
    target = Target(torch.zeros(2, 3, 32, 32), classes=torch.tensor([1, 2]))
    stages = {0: {"steps": 1}, 1: {"steps": 2, "locality": {}}}
    assert load_method("pti-w", g, stages=stages).invert(target).error == [None, None]
