"""``ganinv directions``: import, list, show, compare, export, deprecate, and the notation of edits."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from flows import cli
from ganinv.codes.code import Code
from ganinv.directions.direction import Direction
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.records import code_to_table
from ganinv.store import Plan, open_store

STATED = ("--generator-name", "stylegan2-ffhq", "--resolution", "1024")


class Terminal:
    """The command line in this process, on one store."""

    def __init__(self, store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.store, self._monkeypatch, self._capsys = store, monkeypatch, capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["ganinv", *arguments, f"--store={self.store}"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = self._capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    def json(self, *arguments: str) -> Any:
        code, out, err = self(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    def fails(self, *arguments: str) -> str:
        code, _, err = self(*arguments)
        assert code == 1
        assert "Traceback" not in err
        return " ".join(err.split())


@pytest.fixture
def ganinv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    return Terminal(str(tmp_path / "store"), monkeypatch, capsys)


@pytest.fixture(scope="module")
def g() -> Generator:
    return open_generator("portraits-64")


def own(ganinv: Terminal) -> list[dict[str, Any]]:
    """What ``directions list`` tells of the store's own; before them are those that ship."""
    rows = ganinv.json("directions", "list")
    assert [row["name"] for row in rows if row["version"] == 0] == ["age", "gender", "glasses", "smile", "yaw"]
    return [row for row in rows if row["version"]]


def put(ganinv: Terminal, g: Generator, name: str, seed: int) -> None:
    vector = np.random.default_rng(seed).normal(size=g.w_dim)
    vector /= np.linalg.norm(vector)
    d = Direction(name, vector, "w", g.name, g.fingerprint, "test", positive_means="smiles", report={"stability": 0.9})
    open_store(ganinv.store).directions.put(d)


def test_import_list_show_export(ganinv: Terminal, tmp_path: Path) -> None:
    rows = np.tile(np.random.default_rng(0).normal(size=512).astype(np.float32), (18, 1))
    torch.save(torch.tensor(rows)[None], tmp_path / "pose.pt")
    (row,) = ganinv.json("directions", "import", "pose.pt", *STATED, "--layers=0-3", "--positive-means=turns")
    assert (row["name"], row["version"], row["space"], row["equal_rows"], row["verified"]) == (
        "pose",
        1,
        "w",
        18,
        False,
    )
    assert row["norm"] == pytest.approx(np.linalg.norm(rows), abs=1e-3)
    (listed,) = own(ganinv)
    assert (listed["layers"], listed["positive_means"], listed["deprecated"]) == ([0, 4], "turns", None)
    shown = ganinv.json("directions", "show", "pose")
    assert shown["report"]["source"]["equal_rows"] == 18
    assert shown["shape"] == [512]
    code, out, _ = ganinv("directions", "show", "pose")
    assert code == 0
    assert "report.source.file: pose.pt" in out
    assert "strip: none: direction 'pose' was imported for 'stylegan2-ffhq' without its weights" in out
    code, out, _ = ganinv("directions", "export", "pose", "--out=again.pt", "--form=batch")
    assert code == 0
    assert "pose as [1, 18, 512] in again.pt" in out
    assert torch.equal(torch.load("again.pt", weights_only=True), torch.tensor(rows)[None])


def test_what_the_file_does_not_say_must_be_stated(ganinv: Terminal, tmp_path: Path) -> None:
    np.save("smile.npy", np.ones((1, 512), np.float32))
    assert "give --generator with its weights" in ganinv.fails("directions", "import", "smile.npy")
    assert "state space" in ganinv.fails("directions", "import", "smile.npy", *STATED)
    message = ganinv.fails("directions", "import", "smile.npy", "--generator=portraits-64", "--space=w")
    assert "is not a direction in w of 'portraits-64'" in message
    Path("page.npy").write_text("<!DOCTYPE html><html>")
    assert "it is a web page" in ganinv.fails("directions", "import", "page.npy", *STATED)
    assert own(ganinv) == []


def test_a_pca_comes_in_and_goes_out(ganinv: Terminal) -> None:
    basis = {"comp": torch.randn(3, 1, 512), "mean": torch.randn(1, 512), "std": torch.tensor([3.0, 2.0, 1.5])}
    torch.save(basis, "ffhq_pca.pt")
    rows = ganinv.json("directions", "import", "ffhq_pca.pt", *STATED)
    assert [(row["name"], row["unit"]) for row in rows] == [("pca-00", 3.0), ("pca-01", 2.0), ("pca-02", 1.5)]
    code, out, _ = ganinv("directions", "export", "pca-*", "--out=own_pca.pt")
    assert code == 0
    assert "3 directions as mean, comp, std in own_pca.pt" in out
    again = torch.load("own_pca.pt", weights_only=True)
    assert all(torch.equal(again[key], basis[key]) for key in basis)
    assert "no direction matches 'sefa-*'" in ganinv.fails("directions", "export", "sefa-*", "--out=x.pt")
    (row,) = ganinv.json("directions", "import", "ffhq_pca.pt", *STATED, "--select=2", "--layers=7", "--name=eyes")
    assert (row["name"], row["unit"]) == ("eyes", 1.5)


@pytest.mark.seconds
def test_show_draws_a_strip(ganinv: Terminal, g: Generator) -> None:
    put(ganinv, g, "smile", 0)
    code, out, _ = ganinv("directions", "show", "smile", "--strengths=-2,2", "--samples=2")
    assert code == 0
    assert "report.stability: 0.9" in out
    assert "strip: smile-1.png" in out
    with Image.open("smile-1.png") as image:
        assert image.size == (2 * 12 + 3 * 116 - 4, 76 + 2 * 116 - 4 + 12)
    assert ganinv.json("directions", "show", "smile", "--out=deep/s.png", "--samples=1")["strip"] == "deep/s.png"
    assert Path("deep/s.png").is_file()
    assert "expected strengths such as" in ganinv.fails("directions", "show", "smile", "--strengths=a", "--out=x.png")
    assert "did you mean 'smile'?" in ganinv.fails("directions", "show", "smil")


def test_the_version_that_ships_is_found_by_its_number(ganinv: Terminal, g: Generator) -> None:
    put(ganinv, g, "age", 1)
    shipped = open_store(ganinv.store).directions.get("age", version=0).vector
    assert ganinv("directions", "export", "age@0", "--out=age.npy")[0] == 0
    assert np.allclose(np.load("age.npy").ravel(), shipped.ravel())
    assert abs(ganinv.json("directions", "compare", "age@0", "age@1")["cosine"]) < 0.9
    assert ganinv.json("directions", "show", "age@0")["version"] == 0


@pytest.mark.seconds
def test_compare_and_deprecate(ganinv: Terminal, g: Generator) -> None:
    for name, seed in (("smile", 0), ("smile", 1), ("age", 2)):
        put(ganinv, g, name, seed)
    shelf = open_store(ganinv.store).directions
    found = ganinv.json("directions", "compare", "smile@1", "smile@2")
    want = float(shelf.get("smile", version=1).vector @ shelf.get("smile", version=2).vector)
    assert found["cosine"] == pytest.approx(want, abs=1e-6)
    assert (found["first"], found["second"]) == ("smile@1", "smile@2")
    code, out, _ = ganinv("directions", "compare", "smile", "age")
    assert code == 0
    assert "left of first" in out
    code, out, _ = ganinv("directions", "deprecate", "smile@2", "--reason=mislabelled")
    assert code == 0
    assert "smile@2 is deprecated: mislabelled" in out
    assert ganinv.json("directions", "show", "smile")["version"] == 1
    assert ganinv.json("directions", "show", "smile@2")["version"] == 2
    assert [row["deprecated"] for row in own(ganinv)] == [None, None, "mislabelled"]
    _, out, _ = ganinv("directions", "list")
    assert "mislabelled" in out
    ganinv("directions", "deprecate", "age", "--reason=use older")
    assert "'age' is deprecated: use older" in ganinv.fails("directions", "show", "age")
    assert "rows are given when a direction is applied" in ganinv.fails("directions", "show", "smile(0-3)")


def test_edits_in_the_notation(ganinv: Terminal, g: Generator) -> None:
    for name, seed in (("smile", 0), ("pca-01", 1)):
        put(ganinv, g, name, seed)
    put(ganinv, g, "smile", 2)
    store = open_store(ganinv.store)
    collection = store.latents["few"]
    origin = {"generator_name": g.name, "generator_fingerprint": g.fingerprint, "method": "test"}
    collection.start(Plan.of("invert", {}, origin, ["a"], 1))
    w = g.map(torch.zeros(1, g.z_dim))
    table = code_to_table(Code(w=w), ["a"], collection).append_column("space", pa.array(["w"]))
    collection.write_part(0, table, [], {})
    collection.finish()
    common = ("edit", "--latents=few", "--engine=inline", "--images=none")
    result = ganinv.json(*common, "--edit", "smile@1(0-3)=2,E(v1,4-7)=-1", "--edit", "smile=1")
    assert result["rows"] == 2
    edits = store.edits["edits"].read()
    assert edits["edit"].to_pylist() == ["smile@1(0-3)=2,E(v1,4-7)=-1", "smile=1"]
    moved = np.array(edits["w"].to_pylist()).reshape(2, *w.shape[1:]) - w[0].numpy()
    smile, pca = store.directions.get("smile", version=1).vector, store.directions.get("pca-01").vector
    np.testing.assert_allclose(moved[0, :4], np.tile(2 * smile, (4, 1)), atol=1e-5)
    np.testing.assert_allclose(moved[0, 4:8], np.tile(-pca, (4, 1)), atol=1e-5)
    assert not moved[0, 8:].any()
    assert "does not name a direction; write smile=2" in ganinv.fails(*common, "--edit", "smile(0=2")
    assert "no version 9" in ganinv.fails(*common, "--edit", "smile@9=2")


@pytest.mark.seconds
def test_trust_is_given_by_name(ganinv: Terminal, g: Generator) -> None:
    np.save("own.npy", np.ones(g.w_dim, np.float32))
    stated = ("--generator-name=mine", "--resolution=64", f"--w-dim={g.w_dim}", "--space=w")
    ganinv.json("directions", "import", "own.npy", *stated)
    code, out, _ = ganinv("directions", "show", "own", "--trust", "--samples=1")
    assert code == 0
    assert "strip: own-1.png" in out
    assert "name it in `trust`" in ganinv.fails("directions", "show", "own", "--out=x.png")
