"""Edits of many plain latents: in units bounded by their bytes, resumed to the byte, equal to what ``Edit`` makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from ganinv.codes.code import Code
from ganinv.directions.direction import Direction
from ganinv.editing import Edit
from ganinv.editing.moves import moved
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.store import Plan, Store, open_store, tensor_array
from ganinv.store.tensors import tensor_numpy
from tasks.engine import Engine, open_pools
from tasks.steps import edit as step
from tasks.steps.edit import EditJob, EditSpec, run_edit
from tasks.steps.edit_table import EXTRAS

COUNT, STORED = 300, 16
SPECS = (
    EditSpec(name="smile", directions={"smile": 1.0}, strengths=(-2.0, 0.5)),
    EditSpec(name="both", directions={"smile(0-3)": 1.0, "age": -0.5}, strengths=(1.0,), conditions=("pca-00",)),
    EditSpec(name="absolute", directions={"pca-00": 1.0}, strengths=(1.5,)),
)


@pytest.fixture(scope="module")
def g() -> Generator:
    return open_generator()


def direction(g: Generator, name: str, seed: int, **more: str) -> Direction:
    vector = np.random.default_rng(seed).normal(size=g.w_dim)
    return Direction(name, vector / np.linalg.norm(vector), "w", g.name, g.fingerprint, "test", **more)  # type: ignore[arg-type]


@pytest.fixture
def store(g: Generator, tmp_path: Path) -> Store:
    """Latents in units of 16 images, as an expensive method leaves them."""
    store = open_store(str(tmp_path))
    for made in (direction(g, "smile", 0), direction(g, "age", 1), direction(g, "pca-00", 2, mode="absolute")):
        store.directions.put(made)
    collection = store.latents["many"]
    origin = {"generator_name": g.name, "generator_fingerprint": g.fingerprint, "method": "test"}
    plan = collection.start(Plan.of("invert", {}, origin, [f"{k:05d}" for k in range(COUNT)], STORED))
    rng = np.random.default_rng(3)
    for unit in plan.units:
        w = rng.normal(size=(len(unit.ids), g.num_ws, g.w_dim)).astype(np.float32)
        columns = {"image_id": pa.array(unit.ids), "w": tensor_array(w, ["layer", "channel"])}
        collection.write_part(
            unit.index, pa.table(columns | {k: pa.nulls(len(w), t) for k, t in EXTRAS.items()}), [], {}
        )
    collection.finish()
    return store


def run(store: Store, **more: object) -> dict[str, object]:
    job = EditJob(store=store.url, latents="many", edits=SPECS, **more)  # type: ignore[arg-type]
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        return run_edit(job, pools)


@pytest.mark.seconds
def test_rows_are_what_edit_makes_of_each_latent(store: Store, g: Generator) -> None:
    assert run(store)["rows"] == COUNT * 4
    table = store.edits["edits"].read()
    assert table["image_id"].to_pylist() == [f"{k:05d}" for k in range(COUNT) for _ in range(4)]
    assert table["edit"].to_pylist()[:4] == ["smile", "smile", "both", "absolute"]
    got = tensor_numpy(table["w"]).reshape(COUNT, 4, g.num_ws, g.w_dim)
    code = Code(w=torch.from_numpy(tensor_numpy(store.latents["many"].read(["w"])["w"])))
    edits = [spec.edit(strength) for spec in SPECS for strength in spec.strengths]
    for k, edit in enumerate(edits):
        want = edit.apply(code, store, generator=g).w.numpy()
        np.testing.assert_allclose(got[:, k], want, atol=1e-6, err_msg=str(edit))


@pytest.mark.seconds
def test_units_are_bounded_by_their_bytes_and_not_by_those_of_the_inversion(
    store: Store, g: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(store)
    assert [len(unit.ids) for unit in store.edits["edits"].plan().units] == [COUNT]
    monkeypatch.setattr(step, "UNIT_BYTES", 100 * 4 * g.num_ws * g.w_dim * 4)
    run(store, name="small")
    assert [len(unit.ids) for unit in store.edits["small"].plan().units] == [100, 100, 100]
    assert store.edits["small"].read().equals(store.edits["edits"].read())


@pytest.mark.seconds
def test_a_run_goes_on_where_it_was_killed(store: Store, g: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "UNIT_BYTES", 100 * 4 * g.num_ws * g.w_dim * 4)
    run(store)
    folder = Path(store.edits["edits"].url)
    before = {path.name: path.read_bytes() for path in folder.glob("part-*")}
    (folder / "part-00001.parquet").unlink()
    (folder / "_manifest.json").unlink()
    assert run(store)["units_computed"] == 1
    assert {path.name: path.read_bytes() for path in folder.glob("part-*")} == before


def test_a_step_that_all_samples_share_is_kept_once_and_written_in_place(g: Generator) -> None:
    w = torch.randn(5, g.num_ws, g.w_dim, generator=torch.Generator().manual_seed(0))
    smile, age, absolute = (
        direction(g, n, k, **m) for k, (n, m) in enumerate((("a", {}), ("b", {}), ("c", {"mode": "absolute"})))
    )
    one = torch.tensor(2.0)
    assert smile.step(w, 2.0).stride(0) == 0
    assert smile.step(w, torch.full((5,), 2.0)).stride(0) != 0
    out = torch.zeros(5, 2, g.num_ws, g.w_dim)
    for steps in ([(smile, one)], [(smile, one), (age, -one)], [(smile, one), (absolute, one)]):
        code = moved(Code(w), steps, out=out[:, 1])
        assert code.w.data_ptr() == out[:, 1].data_ptr()
        want = w + sum(d.step(w, s) for d, s in steps)
        torch.testing.assert_close(out[:, 1], want, atol=1e-6, rtol=0)
        torch.testing.assert_close(
            Edit({d.name: float(s) for d, s in steps}).apply(Code(w), {d.name: d for d, _ in steps}).w,
            want,
            atol=1e-6,
            rtol=0,
        )
    assert not out[:, 0].any()
