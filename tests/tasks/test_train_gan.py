"""A generator is trained by the same step as any inverter, with the same checkpoints, table and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ganinv.codes.code import Code
from ganinv.errors import ConfigError, RunConflict, WeightsRefused
from ganinv.generators.files import open_generator
from ganinv.store import Store, open_store
from ganinv.training.trainer import TrainingStopped
from tasks.engine import Engine, open_pools
from tasks.pool import RunStopped
from tasks.steps.train import TrainJob, run_train
from tasks.training import TrainingWorker
from tests.training.gans import TINY, noise

RECIPE = {
    **TINY,
    "kind": "gan",
    "name": "faces",
    "size": 16,
    "channels": [16, 16, 8],
    "steps": 6,
    "warm_start": {"steps": 2},
    "anchor_weight": 10.0,
    "checkpoint_every": 2,
    "validation": {"every": 3, "images": 12},
}


def pictures(folder: Path, count: int, width: int = 16, height: int = 16) -> str:
    folder.mkdir()
    for number, image in enumerate(noise(count, max(width, height))):
        array = image.permute(1, 2, 0).numpy()[:height, :width]
        Image.fromarray(array).save(folder / f"{number:02d}.png")
    return str(folder)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    return pictures(tmp_path_factory.mktemp("gan") / "images", 12)


def job(store: Path, images: str | None, **other: Any) -> TrainJob:
    fields = {"store": str(store), "dataset": None if images is None else {"url": images}}
    return TrainJob.model_validate({**fields, "recipe": RECIPE, **other})


def run(train: TrainJob) -> Mapping[str, Any]:
    with open_pools(Engine.model_validate({"kind": "inline", "quiet": True})) as pools:
        return run_train(train, pools)


@pytest.fixture(scope="module")
def undisturbed(images: str, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = tmp_path_factory.mktemp("undisturbed")
    result = run(job(store, images))
    assert result["generator"] == f"{open_store(str(store)).url}/generators/faces"
    assert result["steps"] == 6
    return open_store(str(store))


def weights(store: Store) -> bytes:
    return store.objects.read("generators/faces/generator.safetensors")


@pytest.mark.seconds
def test_a_training_leaves_a_generator_its_losses_and_samples(undisturbed: Store) -> None:
    g = open_generator(f"{undisturbed.url}/generators/faces")
    assert (g.name, g.resolution) == ("faces", 16)
    assert g.discriminator is not None
    assert g.w_std > 0
    assert g.render(Code(w=g.map(torch.randn(2, 8)))).shape == (2, 3, 16, 16)
    losses = undisturbed.collection("training", "faces").read()
    assert sorted(losses["step"].to_pylist()) == [*range(1, 7)]
    assert [value is None for value in losses["decoding"].to_pylist()] == [False, False, True, True, True, True]
    assert [value is None for value in losses["d_loss"].to_pylist()] == [True, True, False, False, False, False]
    assert [value is None for value in losses["validation"].to_pylist()] == [True, True, False, True, True, False]
    names = undisturbed.objects.names("training/faces")
    assert [n for n in names if n.startswith("checkpoint-")] == ["checkpoint-00001.pt", "checkpoint-00002.pt"]
    assert undisturbed.objects.names("training/faces/strips") == ["step-00000003.png", "step-00000006.png"]


@pytest.mark.seconds
def test_stopped_and_run_again_it_ends_with_the_same_weights(images: str, undisturbed: Store, tmp_path: Path) -> None:
    train = job(tmp_path, images)
    answers = iter([False, False, True])
    engine = Engine.model_validate({"kind": "inline", "quiet": True})
    stopping = open_pools(engine, should_stop=lambda: next(answers, True))
    with stopping as pools, pytest.raises(RunStopped, match="stopped with 1 of its checkpoints left"):
        run_train(train, pools)
    assert run(train)["units_computed"] == 1
    assert weights(open_store(str(tmp_path))) == weights(undisturbed)
    assert run(train)["units_computed"] == 0


@pytest.mark.seconds
def test_a_second_training_goes_on_from_the_first(images: str, undisturbed: Store, tmp_path: Path) -> None:
    recipe = {**RECIPE, "warm_start": None, "steps": 1, "validation": {"every": 1, "images": 12}, "ema": None}
    worker = TrainJob.model_validate(
        {
            "store": str(tmp_path),
            "dataset": {"url": images},
            "recipe": recipe,
            "start": f"{undisturbed.url}/generators/faces",
        }
    )
    run(worker)
    first, second = (open_generator(f"{s.url}/generators/faces") for s in (undisturbed, open_store(str(tmp_path))))
    distance = (first.mapping.fc[0].weight - second.mapping.fc[0].weight).norm() / first.mapping.fc[0].weight.norm()
    assert 0 < distance < 0.1


@pytest.mark.seconds
def test_a_data_set_of_ten_images_is_refused_where_components_are_asked_for(tmp_path: Path) -> None:
    ten = pictures(tmp_path / "ten", 10)
    with pytest.raises(ConfigError, match=r"decoded from 20 principal components, and 10 images .* have 19: give more"):
        run(job(tmp_path / "store", ten, recipe={**RECIPE, "z_dim": 20}))
    with pytest.raises(ConfigError, match="10 images are fewer than a batch of 16"):
        run(job(tmp_path / "store", ten, recipe={**RECIPE, "batch_size": 16}))
    with pytest.raises(ConfigError, match="a generator learns from images: give a data set"):
        run(job(tmp_path / "store", None))
    assert not (tmp_path / "store" / "training").exists()


def test_images_of_another_size_are_cropped_and_reduced_but_not_enlarged(images: str, tmp_path: Path) -> None:
    wide = pictures(tmp_path / "wide", 12, 24, 20)
    assert run(job(tmp_path / "store", wide, recipe={**RECIPE, "steps": 1}))["steps"] == 1
    message = "an image has 16 pixels a side, fewer than the 32 that the generator is to make.*: set size to 16"
    with pytest.raises(ConfigError, match=message):
        run(job(tmp_path / "other", images, recipe={**RECIPE, "size": 32, "channels": [16, 16, 8, 8]}))
    assert not (tmp_path / "other").exists()


@pytest.mark.seconds
def test_what_is_of_another_recipe_is_refused(images: str, undisturbed: Store, tmp_path: Path) -> None:
    with pytest.raises(RunConflict, match="batch_size is 8 there, 4 now"):
        run(job(Path(undisturbed.url), images, recipe={**RECIPE, "batch_size": 4}))
    with pytest.raises(
        ConfigError, match=r"a generator is trained, so none is taken from 'elsewhere': .* with --start"
    ):
        run(job(tmp_path, images, generator="elsewhere"))
    with pytest.raises(ConfigError, match="a generator starts from no other network: leave encoder out"):
        run(job(tmp_path, images, needed={"encoder": "e4e"}))
    with pytest.raises(WeightsRefused, match="no generator at 'nowhere'"):
        run(job(tmp_path, images, start="nowhere"))
    assert not (tmp_path / "training").exists()


@pytest.mark.seconds
def test_another_recipe_s_checkpoint_in_its_place_is_refused(images: str, tmp_path: Path) -> None:
    train = job(tmp_path, images)
    run(train)
    store = open_store(str(tmp_path))
    store.objects.remove("training/faces/part-00002.parquet")
    store.objects.remove("training/faces/_manifest.json")
    path = tmp_path / "training/faces/checkpoint-00001.pt"
    torch.save({**torch.load(path, weights_only=True), "kind": "e4e"}, path)
    with pytest.raises(ConfigError, match=r"this checkpoint is of a e4e training, the recipe is for gan"):
        TrainingWorker(train, "cpu")


@pytest.mark.seconds
def test_a_diverging_training_stops_and_keeps_its_best(images: str, tmp_path: Path) -> None:
    """Steps ten times as large as the weights: what it makes is soon further from the images than it was."""
    recipe = {
        **RECIPE,
        "steps": 40,
        "warm_start": None,
        "ema": None,
        "optimizer": {"kind": "muon", "lr": 0.5, "adam_lr": 0.5},
        "validation": {"every": 2, "images": 12, "stop_at": 1.2},
    }
    with pytest.raises(
        TrainingStopped, match=r"the training diverges: kid at step \d+ is .*, more than 1.2 times its best"
    ):
        run(job(tmp_path, images, recipe=recipe))
    kept = open_generator(str(tmp_path / "training/faces/best"))
    assert kept.resolution == 16
    losses = open_store(str(tmp_path)).collection("training", "faces").read()
    assert len(losses) < 40
