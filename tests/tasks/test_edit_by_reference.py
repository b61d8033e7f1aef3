"""Edits by a reference image through the pipeline: an editor of the store, two strengths, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from ganinv.codes.code import Code
from ganinv.errors import ConfigError
from ganinv.methods.files import save_inverter
from ganinv.store import Store, open_store
from tasks.engine import Engine, open_pools
from tasks.steps.edit import EditJob, run_edit
from tasks.steps.edit_references import read_reference
from tasks.steps.invert import InvertJob, run_invert
from tests.contracts.inverters import World, quantised, to_tensor

METHOD = "name: mine\nsummary: ''\nspace: w+\nstages: [{kind: encode, encoder: mine}]\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def store(world: World) -> Store:
    """One with inversions of four images, by a pSp, and an editor on top of that."""
    store = open_store(str(world.folder / "store"))
    save_inverter(world.inverter("psp"), f"{store.url}/encoders/mine", generator=world.generator)
    save_inverter(world.inverter("reference-editor"), f"{store.url}/encoders/editor", generator=world.generator)
    (world.folder / "mine.yaml").write_text(METHOD)
    job = {**common(store, world), "dataset": {"url": world.files}, "method": str(world.folder / "mine.yaml")}
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        run_invert(InvertJob.model_validate(job | {"measure": False}), pools)
    return store


def common(store: Store, world: World) -> dict[str, Any]:
    return {"store": store.url, "generator": str(world.folder / "generator")}


def run(store: Store, world: World, name: str = "edits", **spec: Any) -> dict[str, Any]:
    edit = {"name": "as-2", "reference": f"{world.files}/2.png", "editor": "editor", "strengths": [0.5, 1.0], **spec}
    job = {**common(store, world), "latents": "mine", "edits": [edit], "images": "shards", "name": name}
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        return run_edit(EditJob.model_validate(job), pools)


@pytest.mark.seconds
def test_attributes_are_taken_over_from_another_image(store: Store, world: World) -> None:
    assert run(store, world)["rows"] == 8
    editor, images = world.inverter("reference-editor"), quantised(world.images)
    before = torch.from_numpy(store.latents["mine"].read(["w"])["w"].combine_chunks().to_numpy_ndarray().copy())
    expected = editor.edit_by_reference(Code(w=before), editor.reference_code(images[2:3])).w
    table = store.edits["edits"].read().to_pylist()
    w = torch.tensor([row["w"] for row in table if row["strength"] == 1]).reshape(before.shape)
    torch.testing.assert_close(w, expected, atol=1e-4, rtol=1e-4)
    half = torch.tensor([row["w"] for row in table if row["strength"] == 0.5]).reshape(before.shape)
    torch.testing.assert_close(half, (before + w) / 2)
    picture = to_tensor(next(row["image_png"] for row in table if row["strength"] == 1))
    assert (picture - world.generator.render(Code(w=w[:1]))[0].clamp(-1, 1)).abs().max() < 0.02
    assert store.edits["edits"].plan().config["references"].keys() == {"as-2"}


@pytest.mark.seconds
def test_what_does_not_go_is_refused(store: Store, world: World, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="takes nothing over from references; name an editor"):
        run(store, world, "other", editor="mine")
    with pytest.raises(ConfigError, match="does not take hat from a reference"):
        run(store, world, "other", attributes=["hat"])
    with pytest.raises(ConfigError, match=r"the reference .*nowhere\.png cannot be read"):
        run(store, world, "other", reference=str(tmp_path / "nowhere.png"))
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ConfigError, match="cannot be read"):
        run(store, world, "other", reference=str(tmp_path / "text.png"))
    with pytest.raises(ValidationError, match="either directions or a reference image"):
        run(store, world, "other", reference=None)
    with pytest.raises(ValidationError, match="names attributes, and no reference image"):
        run(store, world, "other", reference=None, directions={"smile": 1}, attributes=["smile"])
    assert "other" not in store.list("edits")


@pytest.mark.seconds
def test_a_reference_may_have_another_size(world: World, tmp_path: Path) -> None:
    from PIL import Image

    assert world.files
    Image.open(f"{world.files}/1.png").resize((90, 120)).save(tmp_path / "large.png")
    image, digest = read_reference(str(tmp_path / "large.png"), world.generator)
    assert image.shape == (1, 3, 32, 32)
    assert len(digest) == 64
