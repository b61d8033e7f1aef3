"""The whole chain on the embedded generator, small: every step, resume, bad images, refusals."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load

from flows.chain import ChainJob, load_chain, run_chain
from ganinv.codes.code import Code, LowRank
from ganinv.config import validate
from ganinv.editing import Response
from ganinv.errors import ConfigError, DataError, GeneratorMismatch, RunConflict
from ganinv.generators.files import open_generator, save_generator
from ganinv.records import table_to_code
from ganinv.store import open_store
from tasks.engine import Engine, open_pools
from tasks.sources import DatasetRef
from tasks.steps.edit import EditJob, EditSpec, run_edit
from tasks.steps.fit import FitJob, run_fit
from tasks.steps.invert import InvertJob, run_invert
from tasks.steps.label import run_label
from tasks.steps.sample import SampleJob, run_sample

INLINE = Engine(kind="inline", quiet=True)

SMALL: dict[str, Any] = {
    "engine": {"kind": "inline", "quiet": True},
    "sample": {"count": 150, "unit_size": 60},
    "fit": {
        "methods": [
            {"method": "interfacegan", "tails": 0.2, "layers": {"glasses": [0, 4]}},
            {"method": "ganspace", "components": 2},
        ],
        "attributes": ["smile", "glasses"],
        "calibration": {"samples": 4},
    },
    "train": [
        {
            "recipe": {
                "kind": "e4e",
                "steps": 4,
                "batch_size": 2,
                "checkpoint_every": 2,
                "validation": {"every": 2, "images": 2},
            }
        }
    ],
    "invert": [
        {"method": "e4e", "unit_size": 2},
        {"method": "w-projection", "unit_size": 2, "overrides": {"stages": {0: {"steps": 4}}}},
        {"method": "pti", "unit_size": 2, "overrides": {"stages": {1: {"steps": 2}, 2: {"steps": 3}}}},
    ],
    "edit": [
        {
            "latents": "pti",
            "images": "files",
            "edits": [
                {"name": "smile", "directions": {"smile": 1}, "strengths": [-1, 0, 1]},
                {"name": "both", "directions": {"smile": 1, "glasses": -1}, "strengths": [1], "conditions": ["pca-00"]},
            ],
        }
    ],
    "evaluate": [{"latents": "e4e"}, {"latents": "pti", "edits": "edits"}],
    "report": {"latents": ["e4e", "pti"], "samples": "samples", "training": "e4e", "edits": "edits"},
}


@pytest.fixture(scope="module")
def done(
    faces: Path, local_prefect: None, faces_are_looked_at: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ChainJob, dict[str, Any]]:
    store = str(tmp_path_factory.mktemp("chain") / "store")
    job = validate(ChainJob, {**SMALL, "store": store, "dataset": {"url": str(faces), "limit": 4}}, "test")
    return job, run_chain(job)


def test_every_step_filled_its_table(done: tuple[ChainJob, dict[str, Any]]) -> None:
    job, result = done
    store = open_store(job.store)
    assert store.samples["samples"].read().num_rows == 150
    assert {d["name"] for d in store.directions.list()} == {"smile", "glasses", "pca-00", "pca-01"}
    assert store.directions.get("glasses").layers == (0, 4)
    assert store.directions.get("smile").layers is None
    assert store.collection("training", "e4e").read().num_rows == 4
    for name in ("e4e", "w-projection", "pti"):
        assert store.latents[name].read().num_rows == 4
        assert store.latents[name].status().left == 0
    assert store.edits["edits"].read().num_rows == 4 * (3 + 1)
    assert store.metrics["pti"].read().num_rows == 4
    assert store.collection("edit-metrics", "edits").read().num_rows == 16
    page = Path(result["report"]["report"]).read_text()
    assert "<html" in page
    assert "pti" in page


@pytest.mark.usefixtures("done")
def test_prefect_shows_how_far_each_step_came() -> None:
    from prefect.artifacts import Artifact

    for key in ("samples-samples", "training-e4e", "latents-pti", "edits-edits"):
        artifact = Artifact.get(key)
        assert artifact is not None, key
        assert artifact.data == 100.0, key
        assert str(artifact.description).endswith("0 failed")


@pytest.mark.seconds
def test_several_fits_and_labels_in_one_chain(tmp_path: Path) -> None:
    """A list of fits, by several methods and on scores of a second labeller, beside the single fit of other chains."""
    quiet = {"kind": "inline", "quiet": True}
    data = {
        "store": str(tmp_path),
        "dataset": {"url": str(tmp_path)},
        "engine": quiet,
        "sample": {"count": 60},
        "label": [{"name": "again", "labeller": "portraits-64"}],
        "fit": [
            {
                "name": "planes",
                "labels": "again",
                "attributes": ["smile"],
                "methods": [{"method": "interfacegan", "tails": 0.3}],
            },
            {"name": "factors", "methods": [{"method": "sefa", "components": 1}]},
        ],
    }
    for fit in data["fit"]:
        fit["calibration"] = {"samples": 2}  # type: ignore[index]
    job = validate(ChainJob, data, "test")
    assert [fit.store for fit in job.fits] == [str(tmp_path)] * 2
    with open_pools(INLINE) as pools:
        run_sample(job.sample, pools)  # type: ignore[arg-type]
        run_label(job.label[0], pools)
        for each in job.fits:
            assert run_fit(each, pools)["rows"] == 1
    assert {d["name"] for d in open_store(str(tmp_path)).directions.list()} == {"smile", "sefa-00"}
    with pytest.raises(ConfigError, match="every fit needs a name of its own"):
        validate(ChainJob, {**data, "fit": [{"name": "a"}, {"name": "a"}]}, "test")


@pytest.mark.seconds
def test_a_second_run_computes_nothing(done: tuple[ChainJob, dict[str, Any]]) -> None:
    job, _ = done
    store = open_store(job.store)
    before = [d["version"] for d in store.directions.list()]
    again = run_chain(job)
    computed = [r["units_computed"] for key, r in again.items() if "units_computed" in r]
    assert computed == [0] * len(computed)
    assert [d["version"] for d in store.directions.list()] == before


def test_samples_do_not_depend_on_units(done: tuple[ChainJob, dict[str, Any]], tmp_path: Path) -> None:
    job, _ = done
    with open_pools(INLINE) as pools:
        run_sample(SampleJob(store=str(tmp_path), count=50, unit_size=7), pools)
    few = open_store(str(tmp_path)).samples["samples"].read()
    many = open_store(job.store).samples["samples"].read(ids=few["image_id"].to_pylist())
    np.testing.assert_allclose(
        np.stack(few["w"].combine_chunks().to_numpy_ndarray()), many["w"].combine_chunks().to_numpy_ndarray(), atol=1e-5
    )
    np.testing.assert_allclose(few["score_smile"].to_numpy(), many["score_smile"].to_numpy(), atol=1e-4)


def test_duckdb_reads_latents_and_the_image_is_the_runs_own(done: tuple[ChainJob, dict[str, Any]]) -> None:
    """Only DuckDB, safetensors and the generator: no reader of ours between the table and the picture."""
    job, _ = done
    g, store = open_generator(), open_store(job.store)
    parts = f"{store.latents['pti'].url}/part-*.parquet"
    rows = duckdb.sql(f"select image_id, w, extras_uri, mse from '{parts}' order by image_id").fetchall()
    assert len(rows) == 4
    for image_id, flat, uri, mse in rows:
        w = torch.tensor(np.array(flat, np.float32)).reshape(1, g.num_ws, g.w_dim)
        tensors = load((Path(store.url) / uri).read_bytes())
        given = {name.removeprefix("weights."): t.float() for name, t in tensors.items()}
        weights = {
            name.removesuffix(".left"): LowRank(t, given[name.removesuffix("left") + "right"])
            if name.endswith(".left")
            else t
            for name, t in given.items()
            if not name.endswith(".right")
        }
        image = g.render(Code(w=w, weights=weights))
        own = g.render(table_to_code(store.latents["pti"].read(ids=[image_id]), store))
        torch.testing.assert_close(image, own, atol=1e-4, rtol=0)
        source = job.dataset.open().load([image_id], 64).images
        assert float((image - source).square().mean()) == pytest.approx(mse, abs=1e-3)  # what the run recorded
    edited = Image.open(next((Path(store.url) / "edits/edits/images/smile/+1.00").iterdir()))
    assert edited.size == (64, 64)


def test_strength_zero_is_the_inversion(done: tuple[ChainJob, dict[str, Any]]) -> None:
    job, _ = done
    store = open_store(job.store)
    table = store.edits["edits"].read()
    rows = table.filter(
        (np.array(table["edit"].to_pylist()) == "smile") & (np.array(table["strength"].to_pylist()) == 0)
    )
    np.testing.assert_array_equal(
        rows["w"].combine_chunks().to_numpy_ndarray(),
        store.latents["pti"].read()["w"].combine_chunks().to_numpy_ndarray(),
    )


@pytest.mark.seconds
def test_a_bad_image_is_a_row_with_a_reason(bad_faces: Path, tmp_path: Path) -> None:
    job = InvertJob(store=str(tmp_path / "s"), dataset=DatasetRef(url=str(bad_faces)), method="e4e")
    with open_pools(INLINE) as pools:
        result = run_invert(job, pools)
    assert (result["rows"], result["failed"]) == (2, 2)
    errors = {e["image_id"]: e["code"] for e in open_store(job.store).latents["e4e"].errors().to_pylist()}
    assert errors == {"page": "not_an_image", "truncated": "truncated"}


def test_missing_dataset_and_unknown_method(tmp_path: Path) -> None:
    with open_pools(INLINE) as pools:
        with pytest.raises(DataError, match="nowhere"):
            run_invert(InvertJob(store=str(tmp_path), dataset=DatasetRef(url=str(tmp_path / "nowhere"))), pools)
        with pytest.raises(ConfigError, match="did you mean 'pti-w'"):
            run_invert(InvertJob(store=str(tmp_path), dataset=DatasetRef(url=str(tmp_path)), method="pti-ww"), pools)


def test_every_method_of_a_chain_is_known_before_its_first_step(tmp_path: Path) -> None:
    invert = [{"method": "e4e"}, {"method": "nosuch", "name": "second"}]
    job = ChainJob.model_validate({"store": str(tmp_path / "s"), "dataset": {"url": "x"}, "invert": invert})
    with pytest.raises(ConfigError, match="unknown method 'nosuch'"):
        run_chain(job)
    assert not (tmp_path / "s").exists()


def test_another_configuration_under_the_same_name_is_refused(done: tuple[ChainJob, dict[str, Any]]) -> None:
    job, _ = done
    changed = job.invert[1].model_copy(update={"seed": 7})
    with open_pools(INLINE) as pools, pytest.raises(RunConflict, match="seed"):
        run_invert(changed, pools)
    assert open_store(job.store).latents["w-projection"].read().num_rows == 4


def test_a_direction_of_another_generator_is_refused(done: tuple[ChainJob, dict[str, Any]], tmp_path: Path) -> None:
    job, _ = done
    other = open_generator()
    other.name = "other"
    other.synthesis.const.data += 0.01
    save_generator(other, str(tmp_path / "other"))
    edit = EditJob(
        store=job.store,
        latents="pti",
        name="refused",
        generator=str(tmp_path / "other"),
        edits=(EditSpec(name="smile", directions={"smile": 1}),),
    )
    with open_pools(INLINE) as pools, pytest.raises(GeneratorMismatch, match=r"portraits-64.*other"):
        run_edit(edit, pools)


def test_fit_of_an_unknown_attribute(done: tuple[ChainJob, dict[str, Any]]) -> None:
    job, _ = done
    with open_pools(INLINE) as pools, pytest.raises(ConfigError, match=r"no score of 'beard'; there are: .*smile"):
        run_fit(FitJob(store=job.store, name="x", attributes=("beard",)), pools)


def test_shared_fields_reach_every_step() -> None:
    job = load_chain("demo", store="memory://demo", dataset={"url": "x"}, generator="portraits-64")
    assert job.fit is not None
    assert job.fit.store == "memory://demo"
    assert {each.generator for each in (*job.invert, *job.edit, *job.evaluate)} == {"portraits-64"}


def test_a_chain_states_strengths_as_changes_of_scores(tmp_path: Path) -> None:
    path = tmp_path / "chain.yaml"
    path.write_text("edit: [{latents: e4e, edits: [{name: a, directions: {smile: 1sd, age: -1}, strengths: [-1, 1]}]}]")
    (edit,) = load_chain(str(path), store="memory://demo", dataset={"url": "x"}).edit
    assert edit.calibrated
    assert EditJob.model_validate(edit.model_dump(mode="json")) == edit
    assert edit.edits[0].edit(-1.0).strengths == {"smile": Response(-1.0), "age": 1.0}


def test_png_column_instead_of_files(done: tuple[ChainJob, dict[str, Any]]) -> None:
    job, _ = done
    edit = EditJob(
        store=job.store,
        latents="e4e",
        name="shards",
        images="shards",
        edits=(EditSpec(name="smile", directions={"smile": 1}, strengths=(2.0,)),),
    )
    with open_pools(INLINE) as pools:
        run_edit(edit, pools)
    png = open_store(job.store).edits["shards"].read()["image_png"][0].as_py()
    assert Image.open(io.BytesIO(png)).size == (64, 64)
