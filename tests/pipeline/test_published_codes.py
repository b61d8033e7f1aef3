"""Published checkpoints whose codes are more than a latent, from the command line: image, import, invert, row, rendering, edit.

The networks are the closed-form ones of the golden data, and the recorded images are those of the original implementations.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from flows import cli
from ganinv.codes.code import Code
from ganinv.directions.direction import Direction
from ganinv.generators.files import open_generator, save_generator
from ganinv.generators.stylegan2 import Generator, GeneratorConfig
from ganinv.records import CodeReader, code_to_table
from ganinv.records.record import decode
from ganinv.store import Plan, Store, open_store
from tests.closed_form import (
    closed_form_checkpoint,
    closed_form_parts,
    closed_form_state,
    closed_form_tensor,
    golden_images,
    golden_input,
)

GOLDEN: dict[str, Any] = {"atol": 1e-3, "rtol": 1e-3}
"""Of decoded images (README of the golden data)."""
FURTHER: dict[str, Any] = {"atol": 3e-3, "rtol": 1e-3}
METHOD = "name: {name}\nsummary: a test\nspace: w+\ndistance: mse\nstages: [{stage}]\n"


def ganinv(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The command line in this process; its output."""
    monkeypatch.setattr(sys, "argv", ["ganinv", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    captured = capsys.readouterr()
    assert not stop.value.code, captured.err
    return captured.out


def recorded(shared: Path, case: str, folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a case, and its one image as ``images/face.png``."""
    arrays = dict(np.load(shared / f"golden/encoders/{case}.npz", allow_pickle=False))
    (folder / "images").mkdir()
    Image.fromarray(arrays["image_u8"][0]).save(folder / "images/face.png")
    return arrays


def rendered(folder: Path) -> Tensor:
    """``face.png`` of a folder as [3, R, R] in [-1, 1]."""
    values = torch.from_numpy(np.asarray(Image.open(folder / "face.png")).copy())
    return values.permute(2, 0, 1).float() / 127.5 - 1


def from_duckdb(store: Store, kind: str, name: str, reader: CodeReader, where: str = "true") -> Code:
    """One row as DuckDB reads it, as a code."""
    query = f"select w, extras_uri from '{store.url}/{kind}/{name}/part-*.parquet' where {where}"
    ((w, uri),) = duckdb.sql(query).fetchall()
    g = reader.generator
    return reader.bound(Code(torch.tensor(w).reshape(1, g.num_ws, g.w_dim), **decode(store.objects.read(uri))))


@pytest.mark.slow
def test_hyperstyle(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, store = shared / "golden/encoders", str(tmp_path / "store")
    arrays = recorded(shared, "hyperstyle_r256", tmp_path)
    torch.save(closed_form_checkpoint(folder / "hyperstyle_r256.json"), tmp_path / "hs.pt")
    w_only = closed_form_checkpoint(folder / "hyperstyle_w_encoder_r256.json", lambda key: key.startswith("encoder."))
    torch.save(w_only, tmp_path / "w.pt")
    del w_only
    needed = f"w_encoder={tmp_path / 'w.pt'}"
    ganinv(monkeypatch, capsys, "import", str(tmp_path / "hs.pt"), "--store", store, "--name", "hs", "--needed", needed)
    for file in ("hs.pt", "w.pt"):
        (tmp_path / file).unlink()  # nothing is needed but the store
    method = tmp_path / "tuned.yaml"
    method.write_text(METHOD.format(name="tuned", stage="{kind: encode, encoder: hs, steps: 2}"))
    where = ["--store", store, "--generator", f"{store}/generators/hs"]
    images = ["--dataset", str(tmp_path / "images")]
    ganinv(monkeypatch, capsys, "invert", *where, *images, "--method", str(method), "--engine", "inline")

    root, g = open_store(store), open_generator(f"{store}/generators/hs")
    reader = CodeReader(root, root.latents["tuned"], g)
    image = g.render(from_duckdb(root, "latents", "tuned", reader))
    torch.testing.assert_close(image, torch.from_numpy(arrays["img_steps"][:, 1]), **FURTHER)
    # What W alone gives, as recorded: HyperStyle leaves W as it was.
    assert (image - torch.from_numpy(arrays["img_w_inversion"])).abs().max() > 0.01
    ((mse,),) = duckdb.sql(f"select mse from '{store}/latents/tuned/part-*.parquet'").fetchall()
    own = float((image - golden_images(arrays["image_u8"])).square().mean())
    assert own == pytest.approx(mse, rel=1e-4)  # what the run rendered
    ganinv(monkeypatch, capsys, "latents", "render", "tuned", *where, "--out", str(tmp_path / "out"))
    assert (rendered(tmp_path / "out") - image[0].clamp(-1, 1)).abs().max() < 1.01 / 255


@pytest.mark.slow
def test_hfgi(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recorded file has no encoder: the method continues from the recorded latents. Its generator makes 128x128 and it reads
    256x256, so it has to be given the photo itself."""
    store = str(tmp_path / "store")
    arrays = recorded(shared, "hfgi_fusion_r128", tmp_path)
    file = str(tmp_path / "fusion.pt")
    torch.save(closed_form_checkpoint(shared / "golden/encoders/hfgi_fusion_r128.json"), file)
    root, g = open_store(store), open_generator(file)
    origin = {"generator_name": g.name, "generator_fingerprint": g.fingerprint, "method": "recorded"}
    start = root.latents["recorded"]
    start.start(Plan.of("invert", {"name": "recorded"}, origin, ["face"], 1))
    start.write_part(0, code_to_table(Code(torch.from_numpy(arrays["ws"])), ["face"], start), [], {})
    start.finish()
    step = arrays["ws_edit"][0] - arrays["ws"][0]
    length = float(np.linalg.norm(step))
    root.directions.put(Direction("turn", step / length, "w+", g.name, g.fingerprint, "recorded", unit=length))
    method = tmp_path / "fused.yaml"
    method.write_text(METHOD.format(name="fused", stage="{kind: encode, encoder: fusion, start: code}"))
    where = ["--store", store, "--generator", file]
    images = ["--dataset", str(tmp_path / "images"), "--engine", "inline"]
    monkeypatch.chdir(tmp_path)
    more = ["--method", str(method), "--from", "recorded", "--encoder", "fusion=fusion.pt"]
    ganinv(monkeypatch, capsys, "invert", *where, *images, *more)
    monkeypatch.chdir("/")  # what was given by a relative path is found all the same

    reader = CodeReader(root, root.latents["fused"], g)
    image = g.render(from_duckdb(root, "latents", "fused", reader))
    torch.testing.assert_close(image, torch.from_numpy(arrays["inversion.final_image"]), **GOLDEN)
    ganinv(monkeypatch, capsys, "latents", "render", "fused", *where, "--out", str(tmp_path / "out"))
    assert (rendered(tmp_path / "out") - image[0].clamp(-1, 1)).abs().max() < 1.01 / 255

    ganinv(monkeypatch, capsys, "edit", *where, "--latents", "fused", "--edit", "turn=1", "--engine", "inline")
    edits = CodeReader(root, root.edits["edits"], g)
    edited = g.render(from_duckdb(root, "edits", "edits", edits))
    torch.testing.assert_close(edited, torch.from_numpy(arrays["edit.final_image"]), **GOLDEN)
    kept = g.render(reader.codes(root.latents["fused"].read()).with_w(torch.from_numpy(arrays["ws_edit"])))
    assert (kept - edited).abs().max() > 0.01  # the features of the unedited face are others


@pytest.mark.slow
def test_padinv(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Constant and rings go into the row's object, and an edit keeps them. Its generator makes 64x64, it reads 256x256."""
    store, case = str(tmp_path / "store"), shared / "golden/encoders/padinv_r64.json"
    arrays = recorded(shared, "padinv_r64", tmp_path)
    torch.save({"models": closed_form_parts(case)}, tmp_path / "padinv.pth")
    ganinv(monkeypatch, capsys, "import", str(tmp_path / "padinv.pth"), "--store", store, "--name", "p")
    (tmp_path / "padinv.pth").unlink()  # nothing is needed but the store
    method = tmp_path / "ringed.yaml"
    method.write_text(METHOD.format(name="ringed", stage="{kind: encode, encoder: p}"))
    where = ["--store", store, "--generator", f"{store}/generators/p"]
    images = ["--dataset", str(tmp_path / "images"), "--engine", "inline", "--record", "dtype=float32"]
    ganinv(monkeypatch, capsys, "invert", *where, *images, "--method", str(method))
    root, g = open_store(store), open_generator(f"{store}/generators/p")
    reader = CodeReader(root, root.latents["ringed"], g)
    code = from_duckdb(root, "latents", "ringed", reader)
    assert code.padding is not None
    assert list(code.padding) == [0, 2, 4, 6]
    torch.testing.assert_close(g.render(code), torch.from_numpy(arrays["img"][:1]), **GOLDEN)
    step = golden_input(case, "direction", [1, 10, 512])[0].double()
    length = float(step.norm())
    vector = (step / length).numpy()
    root.directions.put(Direction("turn", vector, "w+", g.name, g.fingerprint, "recorded", unit=length))
    ganinv(monkeypatch, capsys, "edit", *where, "--latents", "ringed", "--edit", "turn=1", "--engine", "inline")
    edits = CodeReader(root, root.edits["edits"], g)
    edited = g.render(from_duckdb(root, "edits", "edits", edits))
    torch.testing.assert_close(edited, torch.from_numpy(arrays["img_edit"][:1]), **GOLDEN)


@pytest.mark.seconds
def test_in_domain(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The published form of In-Domain's encoder, a bare state dict, on a generator of its shape."""
    store, arrays = str(tmp_path / "store"), recorded(shared, "idinvert_encoder_r64", tmp_path)
    torch.manual_seed(0)
    rows, width = 10, arrays["out"].shape[1] // 10
    shape = GeneratorConfig(resolution=64, channels=(8,) * 5, z_dim=16, w_dim=width, mapping_layers=1)
    save_generator(Generator(shape), str(tmp_path / "g.pt"), "nvidia")
    file, where = str(shared / "golden/encoders/idinvert_encoder_r64.pth"), ["--store", store]
    ganinv(monkeypatch, capsys, "import", file, *where, "--name", "id", "--generator", str(tmp_path / "g.pt"))
    method = tmp_path / "encoded.yaml"
    method.write_text(METHOD.format(name="encoded", stage="{kind: encode, encoder: id}"))
    images = ["--dataset", str(tmp_path / "images"), "--method", str(method), "--engine", "inline"]
    ganinv(monkeypatch, capsys, "invert", *where, "--generator", str(tmp_path / "g.pt"), *images)
    ((w,),) = duckdb.sql(f"select w from '{store}/latents/encoded/part-*.parquet'").fetchall()
    found = torch.tensor(w).reshape(1, rows, width)
    torch.testing.assert_close(found.flatten(1), torch.from_numpy(arrays["out"][:1]), **GOLDEN)


@pytest.mark.slow
def test_uda(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """UDA-Inversion's file has encoder and decoder in it: imported, it inverts the photo, which it reads at 256x256."""
    case, store = shared / "golden/pipelines/uda_r64.json", str(tmp_path / "store")
    arrays = dict(np.load(case.with_suffix(".npz"), allow_pickle=False))
    (tmp_path / "images").mkdir()
    Image.fromarray(arrays["image_u8"][0]).save(tmp_path / "images/face.png")
    torch.save(closed_form_checkpoint(case), tmp_path / "uda.pt")
    ganinv(monkeypatch, capsys, "import", str(tmp_path / "uda.pt"), "--store", store, "--name", "uda")
    (tmp_path / "uda.pt").unlink()
    method = tmp_path / "whole.yaml"
    method.write_text(METHOD.format(name="whole", stage="{kind: encode, encoder: uda}"))
    where = ["--store", store, "--generator", f"{store}/generators/uda"]
    images = ["--dataset", str(tmp_path / "images"), "--method", str(method), "--engine", "inline"]
    ganinv(monkeypatch, capsys, "invert", *where, *images, "--record", "dtype=float32")
    root, g = open_store(store), open_generator(f"{store}/generators/uda")
    reader = CodeReader(root, root.latents["whole"], g)
    image = g.render(from_duckdb(root, "latents", "whole", reader))
    torch.testing.assert_close(image, torch.from_numpy(arrays["inversion.final_image"][:1]), **GOLDEN)


@pytest.mark.slow
def test_style_feature_editor(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three files as their authors have them: the editor with its inverter, an e4e that does not say so, and the generator, whose
    mean latent is that of both. The photo has 256 pixels and the generator 128."""
    case, store = shared / "golden/pipelines/style_feature_editor_r128.json", str(tmp_path / "store")
    arrays = dict(np.load(case.with_suffix(".npz"), allow_pickle=False))
    (tmp_path / "images").mkdir()
    Image.fromarray(arrays["image_u8"][0]).save(tmp_path / "images/face.png")
    average = closed_form_tensor("sfe-a-g", "latent_avg", [1, 512], 0.0, 0.3)[0]
    generator = closed_form_state(case.with_stem(case.stem + "_generator"))
    torch.save({"g_ema": generator, "latent_avg": average}, tmp_path / "g.pt")
    for stem, file in (("", "sfe.pt"), ("_e4e", "e4e.pt")):
        meta = json.loads(case.with_stem(case.stem + stem).read_text())
        tensors = {
            key: closed_form_tensor(meta["salt"], key, spec["shape"], spec["a"], spec["b"], spec["dtype"])
            for key, spec in meta["tensors"].items()
        }
        torch.save({"state_dict": tensors}, tmp_path / file)
        del tensors
    needed = ["--generator", str(tmp_path / "g.pt"), "--needed", f"encoder={tmp_path / 'e4e.pt'}"]
    ganinv(monkeypatch, capsys, "import", str(tmp_path / "sfe.pt"), "--store", store, "--name", "sfe", *needed)
    for file in ("sfe.pt", "e4e.pt"):
        (tmp_path / file).unlink()  # nothing is needed but the store
    method = tmp_path / "detailed.yaml"
    method.write_text(METHOD.format(name="detailed", stage="{kind: encode, encoder: sfe}"))
    where = ["--store", store, "--generator", str(tmp_path / "g.pt")]
    images = ["--dataset", str(tmp_path / "images"), "--engine", "inline", "--record", "dtype=float32"]
    ganinv(monkeypatch, capsys, "invert", *where, *images, "--method", str(method))

    root, g = open_store(store), open_generator(str(tmp_path / "g.pt"))
    reader = CodeReader(root, root.latents["detailed"], g)
    image = g.render(from_duckdb(root, "latents", "detailed", reader))
    torch.testing.assert_close(image, torch.from_numpy(arrays["img"]), **GOLDEN)
    step = closed_form_tensor("sfe-a", "direction", [512], 0.0, 0.5).double()
    length = float(step.norm())
    vector = (step / length).numpy()
    root.directions.put(Direction("turn", vector, "w", g.name, g.fingerprint, "recorded", unit=length))
    ganinv(monkeypatch, capsys, "edit", *where, "--latents", "detailed", "--edit", "turn=2", "--engine", "inline")
    assert arrays["degrees"][1] == 2
    edited = g.render(from_duckdb(root, "edits", "edits", CodeReader(root, root.edits["edits"], g)))
    torch.testing.assert_close(edited, torch.from_numpy(arrays["img_edits"][:, 1]), **GOLDEN)
