from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load

from ganinv.errors import ConfigError, DataError
from ganinv.generators.files import save_generator
from ganinv.labels import open_labeller, read_card
from ganinv.labels.attributes import AttributeNet
from ganinv.store import open_store
from ganinv.training.attribute_images import augment, degrade, veiled
from ganinv.training.attribute_table import YAW, LabelledImages, Portraits, area_under_curve, read_portraits
from ganinv.training.attributes import AttributeLearner, AttributeRecipe, Labellers, moved_against
from ganinv.training.batches import MixedBatches
from ganinv.training.product import Given
from ganinv.training.trainer import Trainer
from tasks.engine import Engine, open_pools
from tasks.steps.train import TrainJob, run_train
from tests.tiny import tiny_generator
from tests.training.gans import Pictures, through_a_file

TINY = {
    "name": "toy",
    "size": 32,
    "channels": (8, 16, 24),
    "eye_channels": None,
    "steps": 96,
    "batch_size": 32,
    "optimizer": {"kind": "adam", "lr": 5e-3, "weight_decay": 0.05},
    "veil": 0.1,
    "adversarial": 0.1,
    "ema": 40.0,
    "validation": {"every": 48, "images": 2},
}


def training(
    train: LabelledImages, test: LabelledImages, start: AttributeNet | None = None, **changes: Any
) -> tuple[Trainer, AttributeLearner]:
    """A trainer on labelled images in memory."""
    recipe = AttributeRecipe.model_validate({**TINY, **changes})
    pictures = Pictures(((train.images + 1) * 127.5).round().to(torch.uint8))
    portraits = Portraits({str(k): row for k, row in enumerate(train.labels)}, test)
    learners: list[AttributeLearner] = []

    def build() -> AttributeLearner:
        learners.append(AttributeLearner(recipe, Given(torch.device("cpu"), start=start), portraits))
        return learners[0]

    trainer = Trainer(recipe, build, MixedBatches(recipe.data, None, recipe.batch_size, pictures))
    return trainer, learners[0]


def toy_faces(n: int, seed: int, glasses_at: int = 5) -> LabelledImages:
    """A bright disc on grey. Yaw moves it sideways, age darkens the ground, smile is a bar below it, gender its
    colour."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.rand(n, 5, generator=rng)
    labels[:, :3] = labels[:, :3].round()
    labels[:, 3] = labels[:, 3] * 50 + 20
    labels[:, 4] = labels[:, 4] * 0.4 - 0.2
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    disc = (x - 15.5 - labels[:, 4, None, None] * 40).square() + (y - 14).square() < 36
    images = (0.2 - labels[:, 3, None, None, None] / 70).repeat(1, 3, 32, 32)
    color = torch.where(labels[:, 1, None] > 0.5, torch.tensor([0.9, 0.2, 0.2]), torch.tensor([0.2, 0.2, 0.9]))
    images = torch.where(disc[:, None], color[:, :, None, None], images)
    bar = ((y - 25).abs() < 2)[None] & (labels[:, 2, None, None] > 0.5)
    images = torch.where(bar[:, None], torch.tensor(1.0), images)
    dots = ((y - glasses_at).abs() < 2)[None] & (labels[:, 0, None, None] > 0.5)
    return LabelledImages(torch.where(dots[:, None], torch.tensor(-1.0), images), labels)


@pytest.mark.seconds
def test_the_recipe_learns_and_its_card_is_of_what_it_saves(tmp_path: Path) -> None:
    test = toy_faces(96, 1)
    trainer, learner = training(toy_faces(256, 0), test)
    before = trainer.validate(test.images)
    for _ in range(96):
        trainer.step()
    after = trainer.validate(test.images)
    assert after.error < 0.3 * before.error
    with trainer.finished():
        files = Labellers().pack(learner, Given(torch.device("cpu")), "toy", {})
    folder = tmp_path / "toy"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    card = read_card(str(folder))
    clean = card.measured["clean"]
    assert clean["gender_auc"] > 0.9
    assert clean["age_correlation"] > 0.9
    assert clean["yaw_correlation"] > 0.9
    assert open_labeller(str(folder)).attributes == card.attributes  # and its weights have the hash that is named there


@pytest.mark.seconds
def test_what_goes_on_from_a_checkpoint_equals_an_undisturbed_run_to_the_bit() -> None:
    faces, test = toy_faces(64, 0), toy_faces(32, 1)
    state = torch.get_rng_state()
    whole, _ = training(faces, test, steps=4)
    curve = [whole.step() for _ in range(4)]
    assert torch.equal(torch.get_rng_state(), state)
    cut, _ = training(faces, test, steps=4)
    assert [cut.step() for _ in range(2)] == curve[:2]
    resumed, _ = training(faces, test, steps=4)
    resumed.load(through_a_file(cut))
    assert [resumed.step() for _ in range(2)] == curve[2:]
    with whole.finished() as a, resumed.finished() as b:
        for name, tensor in a.state_dict().items():
            assert torch.equal(tensor, b.state_dict()[name]), name


def test_mirroring_negates_yaw_and_nothing_else() -> None:
    images = toy_faces(64, 0).images
    targets = torch.ones(64, 5)
    _, changed = augment(images, targets, torch.Generator().manual_seed(0))
    assert set(changed[:, YAW].tolist()) == {-1.0, 1.0}
    assert (changed[:, :YAW] == 1).all()
    assert (targets == 1).all()


def test_mirrored_images_are_those_whose_yaw_was_negated() -> None:
    # A bright right half stays on the right only where the image was not mirrored.
    images = torch.full((64, 3, 32, 32), -0.8)
    images[..., 16:] = 0.8
    shown, changed = augment(images, torch.ones(64, 5), torch.Generator().manual_seed(1))
    right_is_brighter = shown[..., 20:].mean((1, 2, 3)) > shown[..., :12].mean((1, 2, 3))
    assert torch.equal(right_is_brighter, changed[:, YAW] > 0)


def test_degraded_images_stay_in_range_and_differ_from_each_other() -> None:
    images = toy_faces(1, 0).images.expand(16, -1, -1, -1)
    out = degrade(images, torch.Generator().manual_seed(0))
    assert out.abs().max() <= 1
    assert out.flatten(1).unique(dim=0).shape[0] == 16


def test_area_under_curve() -> None:
    scores = np.array([0.1, 0.4, 0.4, 0.9])
    assert area_under_curve(scores, np.array([False, False, True, True])) == pytest.approx(0.875)
    assert np.isnan(area_under_curve(scores, np.ones(4, dtype=bool)))


def test_glasses_are_read_off_the_eyes_alone() -> None:
    net = AttributeNet(5, (8, 16), eye_channels=(8, 16)).eval()
    images = toy_faces(4, 0).images
    elsewhere = images.clone()
    elsewhere[:, :, 22:] = torch.rand(4, 3, 10, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, after = net(images), net(elsewhere)
    assert torch.equal(before[:, 0], after[:, 0])
    assert not torch.allclose(before[:, 1:], after[:, 1:], atol=1e-4)


def test_images_are_moved_to_where_the_loss_grows() -> None:
    train = toy_faces(16, 0)
    targets = train.labels.clone()
    targets[:, 3:] = 0
    torch.manual_seed(0)
    net = AttributeNet(5, (8, 16), eye_channels=(8, 16)).eval()
    moved = moved_against(net, train.images * 0.5, targets, radius=0.5)
    torch.testing.assert_close((moved - train.images * 0.5).flatten(1).norm(dim=1), torch.full((16,), 0.5))
    with torch.no_grad():
        before, after = ((F.mse_loss(net(x)[:, 3:], targets[:, 3:])) for x in (train.images * 0.5, moved))
    assert after > before


def test_a_veil_lies_over_some_images_and_keeps_them_in_range() -> None:
    images = toy_faces(64, 0).images
    out = veiled(images, 0.5, torch.Generator().manual_seed(0))
    changed = (out != images).flatten(1).any(1)
    assert 20 < changed.sum() < 44
    assert out.abs().max() <= 1
    assert torch.equal(veiled(images, 0.0, torch.Generator()), images)


@pytest.mark.slow
def test_glasses_at_the_eyes_are_learned_and_calibrated() -> None:
    test = toy_faces(96, 1, glasses_at=15)
    trainer, learner = training(toy_faces(256, 0, 15), test, eye_channels=(8, 16))
    for _ in range(96):
        trainer.step()
    with trainer.finished():
        card, weights = learner.card("toy")
    assert card.measured["clean"]["glasses_auc"] > 0.98
    assert card.eye_channels == (8, 16)
    net = AttributeNet(5, (8, 16, 24), eye_channels=(8, 16)).eval()
    net.load_state_dict({key: tensor.float() for key, tensor in load(weights).items()})
    with torch.no_grad():
        chance = net(test.images)[:, 0].sigmoid()
    assert abs(chance.mean() - test.labels[:, 0].mean()) < 0.05


@pytest.mark.seconds
def test_training_goes_on_from_a_network_and_samples_get_its_labels(tmp_path: Path) -> None:
    save_generator(tiny_generator(), str(tmp_path / "g"))
    start = AttributeNet(5, (8, 16, 24)).eval()  # without the eyes' own
    trainer, learner = training(
        toy_faces(64, 0),
        toy_faces(32, 1),
        start,
        eye_channels=(8, 16),
        optimizer={"kind": "adam", "lr": 1e-6},
        generators=(str(tmp_path / "g"),),
        samples=12,
        confident=0.5,
    )
    trainer.step()
    torch.testing.assert_close(learner.network.stem.weight, start.stem.weight, atol=1e-3, rtol=1e-2)
    assert (len(learner.generated), learner.generated.targets.shape) == (12, (12, 5))
    again, other = training(toy_faces(64, 0), toy_faces(32, 1), start, eye_channels=(8, 16))
    again.load(through_a_file(trainer))
    assert torch.equal(other.generated.images, learner.generated.images)


def test_what_it_needs_is_asked_for() -> None:
    given = Given(torch.device("cpu"))
    with pytest.raises(ConfigError, match="learned from labels: give their table with --set labels=URL"):
        AttributeRecipe().learner(given)
    with pytest.raises(
        ConfigError, match="samples of generators get their labels from a network: give one with --start"
    ):
        training(toy_faces(8, 0), toy_faces(8, 1), generators=("portraits-64",))
    trainer, learner = training(toy_faces(8, 0), toy_faces(8, 1))
    with pytest.raises(ConfigError, match="learned from portraits: give their data set with --dataset"):
        learner.begin(None)
    learner.portraits = Portraits({"0": torch.zeros(5)}, learner.portraits.test)
    with pytest.raises(DataError, match=r"image '\d' of the data set has no labels in '', or is of its test split"):
        trainer.step()


def portraits(rows: int) -> dict[str, list[object]]:
    buffer = io.BytesIO()
    Image.new("RGB", (128, 128), (255, 0, 0)).save(buffer, "JPEG", quality=95)
    return {
        "id": [f"p{k}" for k in range(rows)],
        "jpeg128": [buffer.getvalue()] * rows,
        "split": ["train", "test"] * (rows // 2),
        "gender": ["F"] * rows,
        "gender_source": ["record (CC0)", "predicted (face-api)"] * (rows // 2),
        "p_male": [0.7] * rows,
        "p_happy": [0.2] * rows,
        "p_glasses": [0.3] * rows,
        "glasses_hand": [1, -1] * (rows // 2),
        "age_pred": [40.0] * rows,
        "yaw": [0.1] * rows,
    }


def test_portraits_are_read_from_any_url_and_recorded_labels_win(tmp_path: Path) -> None:
    path = tmp_path / "portraits.parquet"
    pq.write_table(pa.table(portraits(4)), path)
    found = read_portraits(path.as_uri(), size=16)
    assert found.test.images.shape == (2, 3, 16, 16)
    assert list(found.train) == ["p0", "p2"]
    torch.testing.assert_close(found.train["p0"], torch.tensor([1.0, 0.0, 0.2, 40.0, 0.1]))
    torch.testing.assert_close(found.test.labels[0], torch.tensor([0.3, 0.7, 0.2, 40.0, 0.1]))
    assert found.test.images[0, 0].mean() > 0.95
    assert found.test.images[0, 1].mean() < -0.95


def test_tables_that_are_not_portraits_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"jpeg128": [b""]}), path)
    with pytest.raises(DataError, match="lacks the columns"):
        read_portraits(str(path))
    with pytest.raises(DataError, match="cannot read"):
        read_portraits(str(tmp_path / "none.parquet"))
    pq.write_table(pa.table({**portraits(4), "split": ["train"] * 4}), path)
    with pytest.raises(DataError, match="has 0 test portraits of 4"):
        read_portraits(str(path))


def test_a_labeller_is_trained_by_the_same_step_as_all_else(tmp_path: Path) -> None:
    rows = portraits(12)
    rows["yaw"] = [0.05 * k for k in range(12)]
    rows["age_pred"] = [20.0 + k for k in range(12)]
    pq.write_table(pa.table(rows), tmp_path / "portraits.parquet")
    url = str(tmp_path / "portraits.parquet")
    recipe = {**TINY, "kind": "attributes", "labels": url, "steps": 2, "batch_size": 4, "checkpoint_every": 1}
    job = {"store": str(tmp_path / "s"), "recipe": recipe, "dataset": {"url": url, "where": {"split": "train"}}}
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        result = run_train(TrainJob.model_validate(job), pools)
    labeller = open_labeller(result["labeller"])
    assert (labeller.name, list(labeller.attributes)) == ("toy", ["glasses", "gender", "smile", "age", "yaw"])
    store = open_store(str(tmp_path / "s"))
    assert store.collection("training", "toy").read()["logits"].null_count == 0
    assert store.objects.names("training/toy/strips") == ["step-00000002.png"]
