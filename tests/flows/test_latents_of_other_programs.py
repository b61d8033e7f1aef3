"""Latents that other programs wrote come in, are edited, and go out again; as directions they are refused."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import ganinv
from ganinv.codes.code import Code
from ganinv.directions.direction import Direction
from ganinv.directions.exchange.declared import DeclaredGenerator
from ganinv.directions.exchange.importing import import_directions
from ganinv.errors import DataError
from ganinv.generators.files import open_generator, save_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.records import table_to_code
from ganinv.store import open_store, tensor_numpy
from tests.flows.test_cli import run_here
from tests.tiny import random_w, tiny_generator

Run = Any


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run_here(monkeypatch, capsys, *map(str, arguments))


@pytest.fixture(scope="module")
def g() -> Generator:
    return tiny_generator()


@pytest.fixture(scope="module")
def uri(g: Generator, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("generator") / "tiny")
    save_generator(g, folder)
    return folder


@pytest.fixture(scope="module")
def w(g: Generator) -> np.ndarray:
    """Latents in W+ [3, L, D], rows that differ."""
    own = random_w(g, 3 * g.num_ws)[:, 0].reshape(3, g.num_ws, g.w_dim)
    return own.numpy()


def written(folder: Path, w: np.ndarray) -> dict[str, tuple[list[Path], list[str], np.ndarray]]:
    """Every layout: files, ids that they must get, and latents in the order of the ids."""
    pt = lambda path, value: (path.parent.mkdir(parents=True, exist_ok=True), torch.save(value, path))  # noqa: E731
    (folder / "anna").mkdir()
    np.savez(folder / "anna/projected_w.npz", w=w[:1])
    np.savez(folder / "bert.npz", w=w[1:2])
    pt(folder / "e4e/latents.pt", torch.from_numpy(w))
    np.save(folder / "stack.npy", w)
    np.save(folder / "flat.npy", w[:, 0])
    np.save(folder / "restyle.npy", {"b.jpg": [w[2], w[0]], "dir/a.jpg": [w[0], w[1]]}, allow_pickle=True)  # type: ignore[arg-type]
    np.save(folder / "hyperstyle.npy", {"b.jpg": w[0], "a.jpg": w[1]}, allow_pickle=True)  # type: ignore[arg-type]
    for k, name in enumerate(("carl", "dora")):
        pt(folder / f"embeddings/mine/PTI/{name}/0.pt", torch.from_numpy(w[k : k + 1]))
    pt(folder / "half.pt", {"latents": torch.from_numpy(w[:2]).half()})
    kept = {"img": torch.zeros(3, 4, 4), "noise": [torch.zeros(1, 1, 4, 4)]}
    pt(
        folder / "project.pt",
        {"b.png": {"latent": torch.from_numpy(w[0]), **kept}, "a.png": {"latent": torch.from_numpy(w[1])}},
    )
    pt(folder / "listed.pt", [{"latent": torch.from_numpy(each), "path": "x.png"} for each in w])
    numbered = [f"{name}-{k:05d}" for name in ("e4e",) for k in range(3)]
    return {
        "projector": ([folder / "anna/projected_w.npz"], ["anna"], w[:1]),
        "two files": ([folder / "anna/projected_w.npz", folder / "bert.npz"], ["anna", "bert"], w[:2]),
        "e4e": ([folder / "e4e/latents.pt"], numbered, w),
        "npy": ([folder / "stack.npy"], ["stack-00000", "stack-00001", "stack-00002"], w),
        "w": ([folder / "flat.npy"], ["flat-00000", "flat-00001", "flat-00002"], np.repeat(w[:, :1], w.shape[1], 1)),
        "restyle, the last step": ([folder / "restyle.npy"], ["a", "b"], w[[1, 0]]),
        "hyperstyle": ([folder / "hyperstyle.npy"], ["a", "b"], w[[1, 0]]),
        "pti": ([folder / "embeddings"], ["carl", "dora"], w[:2]),
        "rosinality": ([folder / "project.pt"], ["a", "b"], w[[1, 0]]),
        "a list": ([folder / "listed.pt"], ["listed-00000", "listed-00001", "listed-00002"], w),
        "half precision": ([folder / "half.pt"], ["half-00000", "half-00001"], w[:2].astype(np.float16)),
    }


LAYOUTS = (
    *(
        "projector",
        "two files",
        "e4e",
        "npy",
        "w",
        "restyle, the last step",
        "hyperstyle",
        "pti",
        "rosinality",
        "a list",
    ),
    "half precision",
)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_comes_in_under_its_names(run: Run, tmp_path: Path, uri: str, w: np.ndarray, layout: str) -> None:
    files, ids, expected = written(tmp_path, w)[layout]
    command = ("latents", "import", *files, "--store=store", "--name=brought", f"--generator={uri}")
    code, out, err = run(*command, "--json")
    assert code == 0, err
    assert json.loads(out)["rows"] == len(ids)
    table = open_store("store").latents["brought"].read()
    assert table["image_id"].to_pylist() == ids
    np.testing.assert_array_equal(tensor_numpy(table["w"]), expected.astype(np.float32))
    assert set(table["space"].to_pylist()) == {"w" if layout == "w" else "w+"}
    assert run(*command)[0] == 0  # again: nothing is left to do
    assert open_store("store").latents["brought"].read().num_rows == len(ids)


def test_names_come_from_a_list_or_from_the_images(
    run: Run, tmp_path: Path, uri: str, w: np.ndarray, faces: Path
) -> None:
    np.save("all.npy", np.concatenate([w, w[:1]]))
    Path("names.txt").write_text("d\nc\nb\na\n")
    for name, ids, expected in (
        ("list", "names.txt", "abcd"),
        ("folder", faces, sorted(p.stem for p in faces.iterdir())),
    ):
        command = ("latents", "import", "all.npy", "--store=store", f"--name={name}", f"--ids={ids}")
        assert run(*command, f"--generator={uri}")[0] == 0
        assert open_store("store").latents[name].read()["image_id"].to_pylist() == list(expected)
    Path("names.txt").write_text("only\n")
    code, _, err = run(
        "latents", "import", "all.npy", "--store=store", "--name=x", "--ids=names.txt", f"--generator={uri}"
    )
    assert code == 1
    assert "4 latents and 1 names" in err


@pytest.mark.seconds
def test_what_came_in_is_edited_and_rendered(run: Run, uri: str, g: Generator, w: np.ndarray) -> None:
    np.savez("projected_w.npz", w=w[:1])
    common = ("--store=store", f"--generator={uri}")
    assert run("latents", "import", "projected_w.npz", "--name=p", *common)[0] == 0
    vector = np.ones(g.w_dim, np.float32)
    open_store("store").directions.put(Direction("up", vector, "w", g.name, g.fingerprint, "made-here"))
    assert run("edit", "--latents=p", "--edit=up=2", "--engine=inline", *common)[0] == 0
    assert run("latents", "render", "p", "--out=png", *common)[0] == 0
    assert len(list(Path("png").iterdir())) == 1
    assert run("report", "--latents=p", "--edits=edits", *common)[0] == 0
    code, _, err = run("evaluate", "--latents=p", "--engine=inline", *common)
    assert code == 1
    assert "do not say which images they are of" in err


@pytest.mark.parametrize("rows", [4, 18])
def test_latents_of_another_generator_are_refused(run: Run, uri: str, g: Generator, rows: int) -> None:
    torch.save(torch.randn(2, rows, g.w_dim), "latents.pt")
    code, _, err = run("latents", "import", "latents.pt", "--store=store", "--name=x", f"--generator={uri}")
    assert code == 1
    assert f"{rows} rows of {g.w_dim}" in err
    assert f"of {2 ** (rows // 2 + 1)}x" in err
    assert not Path("store").exists()


def test_two_of_one_name_are_told_apart_by_hand(run: Run, uri: str, w: np.ndarray) -> None:
    for space in ("PTI", "e4e"):
        os.makedirs(f"embeddings/{space}/anna")
        torch.save(torch.from_numpy(w[:1]), f"embeddings/{space}/anna/0.pt")
    command = ("latents", "import", "--store=store", f"--generator={uri}")
    code, _, err = run(*command, "embeddings", "--name=x")
    assert code == 1
    assert "import one of the folders alone" in err
    assert run(*command, "embeddings/PTI", "--name=x")[0] == 0


def test_a_latent_that_is_not_finite_is_an_error_row(run: Run, uri: str, w: np.ndarray) -> None:
    broken = w.copy()
    broken[1, 0, 0] = np.nan
    np.save("stack.npy", broken)
    code, out, _ = run("latents", "import", "stack.npy", "--store=store", "--name=x", f"--generator={uri}", "--json")
    assert (code, json.loads(out)["rows"], json.loads(out)["failed"]) == (0, 2, 1)
    assert open_store("store").latents["x"].errors()["code"].to_pylist() == ["not_finite"]


@pytest.mark.seconds
@pytest.mark.parametrize("form", ["projected-w", "latents-pt", "latents-npy", "pivots"])
def test_what_goes_out_comes_in_again(run: Run, uri: str, w: np.ndarray, form: str) -> None:
    np.save("stack.npy", w)
    Path("names.txt").write_text("a\nb/c\nd\n")
    common = ("--store=store", f"--generator={uri}")
    assert run("latents", "import", "stack.npy", "--name=x", "--ids=names.txt", *common)[0] == 0
    assert run("latents", "export", "x", "--out=out", f"--format={form}", *common)[0] == 0
    if form == "projected-w":
        assert np.load("out/b%2Fc/projected_w.npz")["w"].shape == (1, *w.shape[1:])
    if form == "pivots":
        assert torch.load("out/a/0.pt", weights_only=True).shape == (1, *w.shape[1:])
    names = ["--ids=out/names.txt"] if form.startswith("latents") else []
    place = {"latents-pt": "out/latents.pt", "latents-npy": "out/latents.npy"}.get(form, "out")
    assert run("latents", "import", place, "--name=again", *names, *common)[0] == 0
    again = open_store("store").latents["again"].read()
    np.testing.assert_array_equal(tensor_numpy(again["w"]), w)


def test_a_name_of_several_lines_is_one_line(run: Run, uri: str, w: np.ndarray) -> None:
    np.save("stack.npy", w)
    ids = ["a\nb", "c\u2028d", " e"]
    pq.write_table(pa.table({"id": ids, "image": [b"x"] * 3}), "ids.parquet")
    common = ("--store=store", f"--generator={uri}")
    assert run("latents", "import", "stack.npy", "--name=x", "--ids=ids.parquet", *common)[0] == 0
    assert run("latents", "export", "x", "--out=out", "--format=latents-npy", *common)[0] == 0
    assert sorted(Path("out/names.txt").read_text().split("\n")) == ["", "%20e", "a%0Ab", "c%E2%80%A8d"]
    assert run("latents", "import", "out/latents.npy", "--name=y", "--ids=out/names.txt", *common)[0] == 0


@pytest.mark.seconds
def test_a_tuned_generator_goes_out_beside_its_latent(
    run: Run, tmp_path: Path, uri: str, g: Generator, faces: Path
) -> None:
    few = "name: few\nsummary: few\nspace: w\nstages:\n  - {kind: optimize, space: w, start: mean, steps: 2}\n"
    few += "  - {kind: tune, steps: 3, lr: 0.01}\n"
    Path("few.yaml").write_text(few)
    common = ("--store=store", f"--generator={uri}")
    code, _, err = run("invert", f"--dataset={faces}", "--method=few.yaml", "--limit=2", "--engine=inline", *common)
    assert code == 0, err
    code, out, _ = run("latents", "export", "few", "--out=out", "--format=pivots", "--json", *common)
    assert (code, json.loads(out)["tuned_generators"], json.loads(out)["left_out"]) == (0, 2, {})
    store = open_store("store")
    table = store.latents["few"].read()
    for row, image_id in enumerate(table["image_id"].to_pylist()):
        pivot = torch.load(f"out/{image_id}/0.pt", weights_only=True)
        own = open_generator(f"out/generators/{image_id}.pt")
        code_there = table_to_code(table, store, [row])
        torch.testing.assert_close(own.render(Code(pivot)), g.render(code_there), atol=2e-3, rtol=1e-2)
    code, _, err = run("latents", "export", "few", "--out=one", "--id=nobody", *common)
    assert code == 1


@pytest.mark.seconds
def test_a_latent_is_refused_as_a_direction(run: Run, uri: str, g: Generator, w: np.ndarray) -> None:
    """By the name of its array, of its file, by being several, or by lying where W is; and the advice can be followed."""
    pivot = Path("embeddings/anna")
    pivot.mkdir(parents=True)
    np.savez("projected_w.npz", w=w[:1])
    np.savez("renamed.npz", w=w[0])
    np.save("latents.npy", w[:1])
    np.save("many.npy", w)
    torch.save(torch.from_numpy(w[:1]), pivot / "0.pt")
    torch.save({"latents": torch.from_numpy(w)}, "codes.pt")
    torch.save({"a.png": {"latent": torch.from_numpy(w[0])}}, "project.pt")
    for file in ("projected_w.npz", "renamed.npz", "latents.npy", "many.npy", pivot / "0.pt", "codes.pt", "project.pt"):
        code, _, err = run("directions", "import", file, "--store=store", f"--generator={uri}", "--space=w+")
        assert code == 1
        assert "ganinv latents import" in err, file
        name = Path(file).stem
        assert run("latents", "import", file, f"--name=n-{name}", "--store=store", f"--generator={uri}")[0] == 0
    assert open_store("store").directions.list() == []


def test_a_latent_without_a_telling_name_is_known_by_where_it_lies() -> None:
    g = ganinv.open_generator()
    stated = DeclaredGenerator.of(g)
    latent = g.map(torch.randn(1, g.z_dim, generator=torch.Generator().manual_seed(3)))
    for name, array in (("smile.npy", latent[0, :1].numpy()), ("age.npy", latent.numpy())):
        np.save(name_in := io.BytesIO(), array)
        Path(name).write_bytes(name_in.getvalue())
        try:
            with pytest.raises(DataError, match="lies among the latents"):
                import_directions(name, stated, space="w")
        finally:
            os.unlink(name)


def test_a_direction_that_is_named_like_a_latent_can_be_asked_for(run: Run, uri: str, g: Generator) -> None:
    direction = np.random.default_rng(5).normal(size=(1, g.num_ws, g.w_dim)).astype(np.float32)
    np.savez("odd.npz", w=direction)
    command = ("directions", "import", "odd.npz", "--store=store", f"--generator={uri}", "--space=w+")
    code, _, err = run(*command)
    assert code == 1
    assert "--select w" in err
    assert run(*command, "--select=w")[0] == 0
