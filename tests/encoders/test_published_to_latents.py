"""A published file goes the way of a user: import to a store, invert by name, edit by a reference; against the recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganinv.codes.code import Code
from ganinv.generators.files import open_generator
from ganinv.methods.files import open_inverter
from ganinv.store import open_store
from ganinv.weights.importing import import_weights
from tasks.engine import Engine, open_pools
from tasks.steps.edit import EditJob, run_edit
from tasks.steps.invert import InvertJob, run_invert
from tests.closed_form import closed_form_checkpoint


@pytest.mark.slow
def test_style_transformer_is_imported_and_inverts(shared: Path, tmp_path: Path) -> None:
    golden = shared / "golden" / "encoders" / "style_transformer_r64"
    arrays = np.load(golden.with_suffix(".npz"), allow_pickle=False)
    file, store = tmp_path / "st.pt", open_store(str(tmp_path / "store"))
    torch.save(closed_form_checkpoint(golden.with_suffix(".json")), file)
    generator, encoder = import_weights(str(file), store)
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(arrays["image_u8"]):
        Image.fromarray(image).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "method.yaml").write_text(
        "name: st\nsummary: ''\nspace: w+\ndistance: mse\nstages: [{kind: encode, encoder: st}]\n"
    )
    job = {
        "store": store.url,
        "generator": generator.uri,
        "dataset": {"url": str(tmp_path / "photos")},
        "method": str(tmp_path / "method.yaml"),
        "record": {"dtype": "float32"},
    }
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        assert run_invert(InvertJob.model_validate(job), pools)["rows"] == 2
    rows = store.latents["st"].read(["image_id", "w"]).sort_by("image_id")
    w = torch.from_numpy(rows["w"].combine_chunks().to_numpy_ndarray().copy())
    torch.testing.assert_close(w, torch.from_numpy(arrays["ws"][:, :10]), atol=1e-3, rtol=1e-3)
    with torch.no_grad():
        images = open_generator(generator.uri).synthesize(Code(w=w))
    torch.testing.assert_close(images, torch.from_numpy(arrays["img"]), atol=1e-3, rtol=1e-3)
    assert encoder.fingerprint == open_inverter("st", generator=open_generator(generator.uri), store=store).fingerprint


@pytest.mark.slow
def test_the_editor_is_imported_with_its_encoder_and_edits(shared: Path, tmp_path: Path) -> None:
    folder, store = shared / "golden" / "encoders", open_store(str(tmp_path / "store"))
    edit, psp = (
        closed_form_checkpoint(folder / f"{name}.json") for name in ("style_transformer_edit_r32", "psp_w_r32")
    )
    # An encoder for the editor's own generator: codes of whatever kind are what it edits.
    own = {
        n.replace("decoder.module.", "decoder."): t for n, t in edit["state_dict"].items() if n.startswith("decoder.")
    }
    encoder = {n: t for n, t in psp["state_dict"].items() if n.startswith("encoder.")}
    torch.save(psp | {"state_dict": encoder | own}, tmp_path / "w.pt")
    torch.save(edit, tmp_path / "editor.pt")
    generator, _ = import_weights(str(tmp_path / "w.pt"), store)
    editor, *_ = import_weights(
        str(tmp_path / "editor.pt"), store, only="encoder", generator=generator.uri, needed={"encoder": "w"}
    )
    arrays = np.load(folder / "psp_w_r32.npz", allow_pickle=False)
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(arrays["image_u8"]):
        Image.fromarray(image).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "method.yaml").write_text(
        "name: w\nsummary: ''\nspace: w+\ndistance: mse\nstages: [{kind: encode, encoder: w}]\n"
    )
    common = {"store": store.url, "generator": generator.uri}
    invert = {**common, "dataset": {"url": str(tmp_path / "photos")}, "method": str(tmp_path / "method.yaml")}
    by = {"name": "by", "reference": str(tmp_path / "photos" / "1.png"), "editor": "editor", "strengths": [1.0]}
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        assert run_invert(InvertJob.model_validate(invert), pools)["rows"] == 2
        assert run_edit(EditJob.model_validate({**common, "latents": "w", "edits": [by]}), pools)["rows"] == 2
    before, after = (
        torch.from_numpy(table.read(["w"])["w"].combine_chunks().to_numpy_ndarray().copy())
        for table in (store.latents["w"], store.edits["edits"])
    )
    opened = open_inverter(editor.uri, generator=open_generator(generator.uri), store=store)
    with torch.no_grad():
        expected = opened.edit_by_reference(Code(w=before), Code(w=before[1:]))
    torch.testing.assert_close(after, expected.w, atol=1e-3, rtol=1e-3)
