"""Samples that are there, labelled again: by a network, and by a user's table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from ganinv.codes.code import Code
from ganinv.errors import GeneratorMismatch, RunConflict
from ganinv.generators.files import open_generator, save_generator
from ganinv.labels import open_labeller
from ganinv.store import open_store
from tasks.engine import Engine, open_pools
from tasks.steps.label import LabelJob, run_label
from tasks.steps.sample import SampleJob, run_sample
from tests.tiny import tiny_generator

INLINE = Engine(kind="inline", quiet=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with 60 samples of a tiny generator."""
    root = tmp_path_factory.mktemp("label")
    for seed, name in enumerate(("tiny", "other")):
        save_generator(tiny_generator(16, seed=seed), str(root / name))
    with open_pools(INLINE) as pools:
        run_sample(SampleJob(store=str(root / "store"), generator=str(root / "tiny"), count=60, unit_size=20), pools)
    return root


def table(root: Path, rows: str) -> str:
    (root / "labels.csv").write_text(f"image_id,hat\n{rows}\n")
    (root / "table.yaml").write_text(yaml.safe_dump({"kind": "table", "name": "mine", "path": "labels.csv"}))
    return str(root / "table.yaml")


@pytest.mark.seconds
def test_a_network_scores_what_sampling_scored(root: Path) -> None:
    store = open_store(str(root / "store"))
    with open_pools(INLINE) as pools:
        job = LabelJob(
            store=store.url, name="again", generator=str(root / "tiny"), labeller="portraits-64", unit_size=25
        )
        run_label(job, pools)
    again, samples = store.collection("labels", "again").read(), store.samples["samples"].read()
    assert again["image_id"].to_pylist() == samples["image_id"].to_pylist()
    np.testing.assert_allclose(again["score_smile"].to_numpy(), samples["score_smile"].to_numpy(), atol=1e-5)
    generator, labeller = open_generator(str(root / "tiny")), open_labeller("portraits-64")
    w = torch.from_numpy(np.stack(samples["w"].combine_chunks().to_numpy_ndarray())[:5])
    w = generator.w_mean.lerp(w[:, None].expand(-1, generator.num_ws, -1), 0.8)
    expected = labeller(generator.render(Code(w=w)))["age"]
    np.testing.assert_allclose(samples["score_age"].to_numpy()[:5], expected.numpy(), atol=1e-5)
    origin = store.collection("labels", "again").provenance()
    assert (origin["labeller"], origin["labeller_sha256"]) == (labeller.identity, labeller.weights_sha256)


@pytest.mark.seconds
@pytest.mark.usefixtures("local_ray")
def test_scores_do_not_depend_on_workers_and_batches(root: Path) -> None:
    """docs/methods/attribute-labelling.md, check 3."""
    store = open_store(str(root / "store"))
    given = {"store": store.url, "generator": str(root / "tiny"), "labeller": "portraits-64"}
    with open_pools(INLINE) as pools:
        run_label(LabelJob(**given, name="alone", unit_size=60), pools)
    with open_pools(Engine(kind="ray", slots=2, quiet=True)) as pools:
        run_label(LabelJob(**given, name="shared", unit_size=7), pools)
    alone, shared = (store.collection("labels", name).read() for name in ("alone", "shared"))
    assert shared["image_id"].to_pylist() == alone["image_id"].to_pylist()
    scores = [name for name in alone.schema.names if name.startswith("score_")]
    assert len(scores) == 5
    for name in scores:
        np.testing.assert_allclose(shared[name].to_numpy(), alone[name].to_numpy(), atol=1e-5, rtol=0)


@pytest.mark.seconds
def test_a_table_becomes_a_column_with_one_row_per_sample(root: Path) -> None:
    """docs/methods/attribute-labelling.md, checks 2 and 6: a repeated unit neither doubles nor drops ids;
    what is missing is null."""
    store = open_store(str(root / "store"))
    labeller = table(root, "\n".join(f"sample-{i:09d},{i % 3}" for i in range(50)))
    job = LabelJob(store=store.url, name="hats", generator=str(root / "tiny"), labeller=labeller, unit_size=25)
    with open_pools(INLINE) as pools:
        assert run_label(job, pools)["units_computed"] == 3
        first = store.collection("labels", "hats").read()
        for name in ("part-00001.parquet", "_manifest.json"):
            (root / "store/labels/hats" / name).unlink()
        assert run_label(job, pools)["units_computed"] == 1
    again = store.collection("labels", "hats").read()
    assert again.equals(first)
    assert len(set(again["image_id"].to_pylist())) == again.num_rows == 60
    assert again["score_hat"].null_count == 10
    assert again["score_hat"].to_pylist()[:4] == [0, 1, 2, 0]
    # Another table under the same name is another run.
    table(root, "sample-000000000,5")
    with open_pools(INLINE) as pools, pytest.raises(RunConflict):
        run_label(job, pools)


def test_sampling_for_a_table_renders_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labeller = table(root, "sample-000000001,7")
    monkeypatch.setattr("ganinv.generators.stylegan2.Generator.render", None)
    store = open_store(str(root / "labelled"))
    with open_pools(INLINE) as pools:
        job = SampleJob(store=store.url, generator=str(root / "tiny"), labeller=labeller, count=30)
        run_sample(job, pools)
    assert store.samples["samples"].read()["score_hat"].to_pylist() == [None, 7.0, *[None] * 28]


def test_samples_of_another_generator_are_refused(root: Path) -> None:
    job = LabelJob(store=str(root / "store"), name="x", generator=str(root / "other"), labeller="portraits-64")
    with open_pools(INLINE) as pools, pytest.raises(GeneratorMismatch, match="give the one they belong to"):
        run_label(job, pools)
