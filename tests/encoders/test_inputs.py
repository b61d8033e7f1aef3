"""pSp's other inputs: sketches in one channel, label maps in one for each class; from the training to files of a user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ganinv.config import validate
from ganinv.degradations.drawing import Labels, Sketch
from ganinv.errors import ConfigError, DataError
from ganinv.methods.files import save_inverter
from ganinv.methods.inputs import as_labels, as_sketch
from ganinv.methods.psp import Psp, PspConfig, PspRecipe
from ganinv.methods.published.checkpoints import open_encoder_checkpoint
from ganinv.store import open_store
from ganinv.training.batches import MixedBatches
from ganinv.training.trainer import Trainer
from tasks.engine import Engine, open_pools
from tasks.steps.invert import InvertJob, run_invert
from tests.contracts.inverters import World, disturbed
from tests.encoders.outlines import outline
from tests.tiny import tiny_generator

SMALL = {"base_channels": 8, "pyramid_channels": 8, "head_channels": 8}


def pictures(labels: torch.Tensor) -> torch.Tensor:
    """Label maps [B, H, W] as pictures are read: [B, 3, H, W] in [-1, 1]."""
    return (labels[:, None].float() / 127.5 - 1).expand(-1, 3, -1, -1)


def test_label_maps_become_channels_and_invent_no_class() -> None:
    labels = torch.tensor([[[0, 0, 4, 4], [0, 0, 4, 4], [2, 2, 1, 1], [2, 2, 1, 1]]])
    hot = as_labels(pictures(labels), 5, (4, 4))
    assert torch.equal(hot.argmax(1), labels)
    assert torch.equal(hot.sum(1), torch.ones(1, 4, 4))
    assert set(as_labels(pictures(labels), 5, (3, 3)).argmax(1).flatten().tolist()) <= {0, 1, 2, 4}
    with pytest.raises(DataError, match="has the value 4, expected the classes 0 to 3"):
        as_labels(pictures(labels), 4, (4, 4))


def test_a_sketch_is_its_brightness() -> None:
    white = as_sketch(torch.ones(2, 3, 8, 8), (4, 4))
    assert torch.equal(white, torch.ones(2, 1, 4, 4))


def test_what_is_drawn_of_photos() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, 16:] = 200
    sketch = Sketch(kind="sketch").apply(image, np.random.default_rng(0)).image
    assert sketch.shape == image.shape
    assert (sketch[:, [2, 29]] == 255).all()
    assert (sketch[:, 15:17] < 100).all()
    labels = Labels(kind="labels", segmenter="aligned-face").apply(image, np.random.default_rng(0)).image
    assert len(np.unique(labels)) > 4
    assert labels.max() < 11


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"reads": "labels"}, "classes are of label maps: got 0 with reads: labels"),
        ({"classes": 3}, "classes are of label maps: got 3 with reads: photo"),
        ({"reads": "sketch", "sees_rendering": True}, "a sketch cannot be compared with a rendering"),
    ],
)
def test_what_does_not_go_together(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(PspConfig, {"resolution": 32, "num_ws": 8, "w_dim": 16, **given}, "test")


@pytest.mark.seconds
@pytest.mark.parametrize("reads", ["sketch", "labels"])
def test_an_encoder_learns_from_them(reads: str) -> None:
    g = tiny_generator()
    drawn = {"kind": "sketch"} if reads == "sketch" else {"kind": "labels", "segmenter": "aligned-face"}
    given = {
        "steps": 3,
        "batch_size": 2,
        "inverter": {**SMALL, "reads": reads, **({"classes": 11} if reads == "labels" else {})},
        "data": {"degrade": {"choose": [drawn]}},
        "losses": {"distance": 0.0},
    }
    recipe = validate(PspRecipe, given, "test")
    trainer = Trainer(recipe, lambda: recipe.build(g, {}, None), MixedBatches(recipe.data, g, 2))
    before = {n: t.clone() for n, t in trainer.learner.network.named_parameters()}
    for _ in range(2):
        trainer.step()
    stem = "backbone.stem.weight"
    assert before[stem].shape[1] == (1 if reads == "sketch" else 11)
    assert not torch.equal(trainer.learner.network.get_parameter(stem), before[stem])


@pytest.mark.seconds
def test_label_maps_of_a_user_are_inverted(tmp_path: Path) -> None:
    world = World(tmp_path)
    g, store = world.generator, open_store(str(tmp_path / "store"))
    given = {**SMALL, "reads": "labels", "classes": 4}
    encoder = disturbed(Psp(validate(PspConfig, PspConfig.for_generator(g, given), "test"), g), 3)
    save_inverter(encoder, f"{store.url}/encoders/mine", generator=g)
    maps = torch.randint(4, (2, 6, 6), generator=torch.Generator().manual_seed(0)).repeat_interleave(13, 1)
    maps = maps.repeat_interleave(13, 2)  # 78 pixels: resized, and no class is invented
    (tmp_path / "maps").mkdir()
    for number, one in enumerate(maps):
        Image.fromarray(one.numpy().astype(np.uint8)).save(tmp_path / "maps" / f"{number}.png")
    (tmp_path / "method.yaml").write_text(
        "name: mine\nsummary: ''\nspace: w+\nstages: [{kind: encode, encoder: mine}]\n"
    )
    job = {
        "store": store.url,
        "generator": str(tmp_path / "generator"),
        "dataset": {"url": str(tmp_path / "maps")},
        "method": str(tmp_path / "method.yaml"),
    }
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        with pytest.raises(ConfigError, match=r"reads labels, and no photos that .* --no-measure"):
            run_invert(InvertJob.model_validate(job), pools)
        assert run_invert(InvertJob.model_validate(job | {"measure": False}), pools)["rows"] == 2
    w = torch.from_numpy(store.latents["mine"].read(["w"])["w"].combine_chunks().to_numpy_ndarray().copy())
    sides = (torch.arange(32) + 0.5) * 78 / 32
    small = maps[:, sides.long()][:, :, sides.long()]
    torch.testing.assert_close(w, encoder(pictures(small)).w, atol=1e-4, rtol=1e-4)


@pytest.mark.seconds
def test_published_files_of_these_tasks() -> None:
    tree = outline("psp_gradual_r32", "encoder.", "cpu")
    tree["latent_avg"] = torch.zeros(512)
    stem = "encoder.input_layer.0.weight"
    tree["state_dict"][stem] = torch.zeros(64, 19, 3, 3)
    labels = open_encoder_checkpoint(tree | {"opts": tree["opts"] | {"label_nc": 19, "input_nc": 19}}).encoder
    assert isinstance(labels, Psp)
    assert (labels.cfg.reads, labels.cfg.classes, labels.cfg.img_channels) == ("labels", 19, 3)
    tree["state_dict"][stem] = torch.zeros(64, 1, 3, 3)
    sketch = open_encoder_checkpoint(tree | {"opts": tree["opts"] | {"label_nc": 0, "input_nc": 1}}).encoder
    assert isinstance(sketch, Psp)
    assert sketch.reads == "sketch"


def test_channels_come_last_in_memory_unless_gradients_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of decoded images, as of renderings: convolutions pass their order on, and take half again as long in the other."""
    g = tiny_generator()
    encoder = Psp(
        PspConfig(resolution=32, num_ws=g.num_ws, w_dim=g.w_dim, base_channels=8, pyramid_channels=8), g
    ).eval()
    seen = list[torch.Tensor]()
    refine = encoder.refine
    monkeypatch.setattr(encoder, "refine", lambda images, *a, **k: seen.append(images) or refine(images, *a, **k))
    images = (torch.rand(3, 3, 32, 32) * 2 - 1).contiguous()
    with torch.no_grad():
        last = encoder(images)
    usual = encoder(images)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert seen[1] is images
    torch.testing.assert_close(last.w, usual.w)
