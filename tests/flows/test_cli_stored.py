"""``ganinv render`` and ``ganinv compress`` on a small store of made-up inversions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from ganinv.codes.code import Code, LowRank
from ganinv.data import open_dataset
from ganinv.data.png import png_bytes
from ganinv.directions.direction import Direction
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.records import RecordConfig, code_to_table, table_to_code
from ganinv.store import Plan, open_store
from ganinv.store.tensors import tensor_numpy
from tests.flows.test_cli import run_here as ganinv

IDS = ["a/b", "c", "d"]
SIZE = 64


@pytest.fixture(scope="module")
def g() -> Generator:
    return open_generator()


@pytest.fixture(scope="module")
def store(g: Generator, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Images that the embedded generator made with tuned weights: a dense delta, a low-rank one, none. Two directions."""
    folder = tmp_path_factory.mktemp("stored")
    root = open_store(str(folder / "store"))
    r = torch.Generator().manual_seed(0)

    def factors(scale: float) -> LowRank:
        left, right = torch.randn(1, shape[0], 2, generator=r), torch.randn(1, 2, shape[1:].numel(), generator=r)
        return LowRank(scale * left, scale * right)

    w = g.map(torch.randn(3, g.z_dim, generator=r), truncation_psi=0.7).detach()
    shape = g.synthesis.get_parameter("convs.3.weight").shape
    offsets = [factors(0.2).dense(shape), factors(0.2)]
    codes = [*(Code(w[k : k + 1], weights={"convs.3.weight": d}) for k, d in enumerate(offsets)), Code(w[2:])]
    for image_id, code in zip(IDS, codes, strict=True):
        path = folder / "images" / f"{image_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png_bytes(g.render(code)[0]))
    dataset = open_dataset(str(folder / "images"))
    loaded = dataset.load(IDS, SIZE)
    collection = root.latents["made"]
    origin = {"generator_name": g.name, "generator_fingerprint": g.fingerprint, "method": "made"}
    plan = Plan.of("invert", {"dataset": {"url": str(folder / "images")}}, origin, IDS, 8)
    collection.start(plan)
    table = pa.concat_tables([code_to_table(c, [i], collection) for i, c in zip(IDS, codes, strict=True)])
    uris = [dataset.sources[image_id].uri for image_id in IDS]
    columns = {"source_uri": uris, "source_sha256": loaded.sha256, "mse": [0.0] * 3, "distance": [0.1] * 3}
    columns |= {"stored_mse": [0.0] * 3, "stored_distance": [0.1] * 3, "stored_form": ["float16"] * 3}
    for name, column in columns.items():
        table = table.append_column(name, pa.array(column))
    collection.write_part(0, table, [], {})
    collection.finish()
    for k, name in enumerate(("smile", "age")):
        vector = np.eye(g.w_dim, dtype=np.float32)[k]
        root.directions.put(Direction(name, vector, "w", g.name, g.fingerprint, "made", unit=5.0))
    return str(root.url)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


@pytest.mark.seconds
def test_render_alone_and_edited(
    g: Generator, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    edits = ["--edit", "smile=2", "--edit", "smile=-1,age=0.5"]
    code, out, err = ganinv(monkeypatch, capsys, "render", "made", "--store", store, "--out", str(tmp_path), *edits)
    assert code == 0, err
    assert "9 images" in out
    expected = {f"{i}{edit}.png" for i in ("a%2Fb", "c", "d") for edit in ("", "@smile=2", "@smile=-1,age=0.5")}
    assert {path.name for path in tmp_path.iterdir()} == expected
    root = open_store(store)
    for row, name in enumerate(("a%2Fb", "c", "d")):
        one = table_to_code(root.latents["made"].read(), root, [row])
        moved = one.w.clone()
        moved[..., 0] += 2 * 5.0
        for suffix, wanted in (("", one), ("@smile=2", one.with_w(moved))):
            image = Image.open(tmp_path / f"{name}{suffix}.png")
            reference = ((g.render(wanted)[0].clamp(-1, 1) + 1) * 127.5).permute(1, 2, 0).numpy()
            assert np.abs(np.asarray(image) - reference).max() < 1.01
        assert np.abs(pixels(tmp_path / f"{name}.png") - pixels(tmp_path / f"{name}@smile=2.png")).mean() > 1


@pytest.mark.seconds
def test_render_a_strip_of_some_images(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ("render", "latents/made", "--store", store, "--out", str(tmp_path))
    ids = ("--id", "c", "--id", "d")
    assert ganinv(monkeypatch, capsys, *base, *ids, "--edit", "smile=2", "--edit", "age=-1", "--strip")[0] == 0
    assert {path.name for path in tmp_path.iterdir()} == {"c@strip.png", "d@strip.png"}
    strip = pixels(tmp_path / "c@strip.png")
    assert strip.shape == (2 * SIZE, 5 * SIZE, 3)
    assert ganinv(monkeypatch, capsys, *base, "--id", "c", "--edit", "smile=2", "--edit", "smile=-1")[0] == 0
    for column, name in ((1, "c@smile=-1"), (2, "c"), (4, "c@smile=2")):
        cell = strip[:SIZE, column * SIZE : (column + 1) * SIZE]
        assert np.abs(cell - pixels(tmp_path / f"{name}.png")).max() <= 1
    assert (strip[:SIZE, 2 * SIZE : 3 * SIZE] == strip[SIZE:, 2 * SIZE : 3 * SIZE]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["render", "mad"], "did you mean 'made'?"),
        (["render", "made", "--strip"], "at least one, such as --edit smile=2"),
        (["render", "made", "--edit", "smil=1"], "did you mean 'smile'?"),
        (["render", "made", "--edit", "smile"], "'smile'"),
        (["render", "made", "--id", "x"], "'x'"),
        (["compress", "made", "--to", "made", "--engine", "inline"], "name of their own"),
        (
            ["compress", "made", "--to", "x", "--rank", "0", "--engine", "inline"],
            "--rank: Input should be greater than or equal to 1",
        ),
        (["compress", "mad", "--to", "x", "--engine", "inline"], "did you mean 'made'?"),
    ],
)
def test_what_cannot_be_done_is_said(
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    more = ["--out", str(tmp_path / "out")] if arguments[0] == "render" else []
    code, _, err = ganinv(monkeypatch, capsys, *arguments, "--store", store, *more)
    assert code == 1
    assert message in " ".join(err.split())


@pytest.mark.seconds
def test_compress_by_rank_and_by_integers(
    g: Generator, store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = open_store(store)
    source = root.latents["made"].read()

    def compressed(to: str, *options: str) -> dict[str, object]:
        code, out, err = ganinv(
            monkeypatch, capsys, "compress", "made", "--store", store, "--to", to, *options, "--engine=inline", "--json"
        )
        assert code == 0, err
        result: dict[str, object] = json.loads(out)
        return result

    ranked = compressed("ranked", "--rank", "4")
    table = root.latents["ranked"].read()
    before, after = source["extras_bytes"].to_pylist(), table["extras_bytes"].to_pylist()
    assert ranked["bytes_before"] == before[0] + before[1]
    assert ranked["bytes_after"] == after[0] + after[1]
    assert after[0] < 0.05 * before[0]  # an exact rank of two
    assert (after[1], after[2]) == (before[1], None)  # low-rank already; w alone
    assert ranked["forms"] == {"low-rank float16": 1, "float16": 1, "w alone": 1}
    np.testing.assert_array_equal(tensor_numpy(table["w"]), tensor_numpy(source["w"]))
    a, b = (table_to_code(t, root, [0]) for t in (source, table))
    torch.testing.assert_close(g.render(a), g.render(b), atol=0.01, rtol=0)

    integers = compressed("integers", "--dtype", "int8")
    assert integers["forms"] == {"int8": 2, "w alone": 1}
    assert integers["bytes_after"] < 0.55 * ranked["bytes_before"]  # type: ignore[operator]
    assert compressed("integers", "--dtype", "int8")["units_computed"] == 0
    assert root.latents["integers"].plan().config["record"] == RecordConfig(dtype="int8").model_dump(mode="json")


def test_help_says_what_the_commands_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("render", "compress"):
        code, out, _ = ganinv(monkeypatch, capsys, command, "--help")
        assert code == 0
        assert "Example" in out


@pytest.mark.seconds
def test_an_edit_as_strong_as_changes_the_score_by_so_much(
    g: Generator, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["edit", f"--store={store}", "--latents=made", "--name=calibrated", "--images=none", "--engine=inline"]
    code, out, err = ganinv(
        monkeypatch, capsys, *arguments, "--edit=smile=0.05score", "--edit=smile=-0.05score", "--json"
    )
    assert code == 0, err
    outcomes = json.loads(out)["outcomes"]
    assert outcomes["reached"] >= 3  # the direction is made up: an image scores higher on one of its sides
    assert sum(outcomes.values()) == 6
    for row in open_store(store).edits["calibrated"].read(["edit", "response", "outcome"]).to_pylist():
        if row["outcome"] == "reached":
            assert row["response"] == pytest.approx(0.05 if row["edit"] == "smile=0.05score" else -0.05, rel=0.02)
    rendered = [
        "latents",
        "render",
        "made",
        f"--store={store}",
        f"--out={tmp_path}",
        "--id=d",
        "--edit=smile=0.05score",
    ]
    assert ganinv(monkeypatch, capsys, *rendered)[0] == 0
    edited = open_store(store).edits["calibrated"].read(["image_id", "edit", "w"]).to_pylist()
    w = next(row["w"] for row in edited if (row["image_id"], row["edit"]) == ("d", "smile=0.05score"))
    image = g.render(Code(torch.tensor(w).reshape(1, g.num_ws, g.w_dim)))[0]
    reference = ((image.clamp(-1, 1) + 1) * 127.5).permute(1, 2, 0).numpy()
    assert np.abs(pixels(tmp_path / "d@smile=0.05score.png") - reference).max() < 1.6
    code, _, err = ganinv(monkeypatch, capsys, *arguments, "--edit=smile=1sd")
    assert (code, "state the change in the score's own measure, as in smile=0.5score" in " ".join(err.split())) == (
        1,
        True,
    )


@pytest.mark.seconds
def test_curves_of_what_is_left_along_an_edit(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tasks.engine import Engine, open_pools
    from tasks.steps.edit import EditJob, EditSpec, run_edit

    spec = EditSpec(name="smile", directions={"smile": 1.0}, strengths=(-1.0, 0.0, 1.0))
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        run_edit(EditJob(store=store, latents="made", name="curve", edits=(spec,)), pools)
    command = ["evaluate", f"--store={store}", "--latents=made", "--edits=curve", "--similarity=embedded"]
    code, _, err = ganinv(monkeypatch, capsys, *command, "--engine=inline")
    assert code == 0, err
    rows = open_store(store).collection("edit-metrics", "curve").read().to_pylist()
    assert len(rows) == 9
    for row in rows:
        unedited = row["strength"] == 0
        assert (
            row["similarity_to_inversion"] == pytest.approx(1.0, abs=1e-4)
            if unedited
            else row["similarity_to_inversion"] < 1
        )
        # The images were rendered from these codes, and rounded to 8 bits.
        assert row["similarity_to_source"] == pytest.approx(row["similarity_to_inversion"], abs=0.02)
    code, _, err = ganinv(monkeypatch, capsys, "editability", f"--store={store}", "--edits=curve", f"--out={tmp_path}")
    assert code == 0, err
    assert "3 images per" in (tmp_path / "editability.md").read_text()
    assert (tmp_path / "editability-smile.svg").stat().st_size > 1000
