from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from ganinv.errors import DataError
from ganinv.labels import open_labeller
from ganinv.labels.attributes import AttributeNet
from ganinv.labels.opening import half_weights, write_labeller
from ganinv.training.attributes import (
    YAW,
    AttributeTrainingConfig,
    LabelledImages,
    area_under_curve,
    augment,
    degrade,
    moved_against,
    read_portraits,
    train_attributes,
    veiled,
)

TINY = AttributeTrainingConfig(
    name="toy",
    size=32,
    channels=(8, 16, 24),
    eye_channels=None,
    epochs=12,
    batch_size=32,
    lr=5e-3,
    veil=0.1,
    adversarial=0.1,
)


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
def test_the_recipe_learns_writes_and_opens_again(tmp_path: Path) -> None:
    messages: list[str] = []
    test = toy_faces(96, 1)
    net, card = train_attributes(toy_faces(256, 0), test, TINY, messages.append)
    assert len(messages) == TINY.epochs
    clean = card.measured["clean"]
    assert clean["gender_auc"] > 0.9
    assert clean["age_correlation"] > 0.9
    assert clean["yaw_correlation"] > 0.9
    weights, digest = half_weights(net)
    assert digest == card.weights_sha256
    write_labeller(tmp_path / "toy", card, weights)
    labeller = open_labeller(str(tmp_path / "toy"))
    with torch.no_grad():
        expected = net(test.images)
    for i, scores in enumerate(labeller(test.images).values()):
        assert torch.equal(scores, expected[:, i])


def test_training_repeats_with_its_seed_and_leaves_global_randomness_alone() -> None:
    config = TINY.model_copy(update={"epochs": 1})
    state = torch.get_rng_state()
    digests = [
        train_attributes(toy_faces(64, 0), toy_faces(32, 1), config, lambda _: None)[1].weights_sha256 for _ in "ab"
    ]
    assert digests[0] == digests[1]
    assert torch.equal(torch.get_rng_state(), state)


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


@pytest.mark.seconds
def test_glasses_at_the_eyes_are_learned_with_generated_images_and_calibrated() -> None:
    messages: list[str] = []
    config = TINY.model_copy(update={"eye_channels": (8, 16), "confident": 0.5, "epochs": 8})
    test = toy_faces(96, 1, glasses_at=15)
    net, card = train_attributes(
        toy_faces(256, 0, 15), test, config, messages.append, generated=toy_faces(64, 2, 15).images
    )
    assert card.measured["clean"]["glasses_auc"] > 0.98
    assert card.eye_channels == (8, 16)
    assert "64 of 64 generated images have a label that is sure" in messages
    assert len(messages) == 2 * config.epochs + 1
    with torch.no_grad():
        chance = net(test.images)[:, 0].sigmoid()
    assert abs(chance.mean() - test.labels[:, 0].mean()) < 0.05


def test_training_goes_on_from_a_network() -> None:
    config = TINY.model_copy(update={"epochs": 1, "lr": 1e-6})
    config = config.model_copy(update={"eye_channels": (8, 16)})
    start = AttributeNet(5, (8, 16, 24))  # without the eyes' own
    net, _ = train_attributes(toy_faces(64, 0), toy_faces(32, 1), config, lambda _: None, start=start)
    torch.testing.assert_close(net.stem.weight, start.stem.weight, atol=1e-3, rtol=1e-2)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(DataError, match="at least one batch of 32 images, got 8"):
        train_attributes(toy_faces(8, 0), toy_faces(8, 1), TINY)


def portraits(rows: int) -> dict[str, list[object]]:
    buffer = io.BytesIO()
    Image.new("RGB", (128, 128), (255, 0, 0)).save(buffer, "JPEG", quality=95)
    return {
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
    train, test = read_portraits(path.as_uri(), size=16)
    assert train.images.shape == test.images.shape == (2, 3, 16, 16)
    torch.testing.assert_close(train.labels[0], torch.tensor([1.0, 0.0, 0.2, 40.0, 0.1]))
    torch.testing.assert_close(test.labels[0], torch.tensor([0.3, 0.7, 0.2, 40.0, 0.1]))
    assert train.images[0, 0].mean() > 0.95
    assert train.images[0, 1].mean() < -0.95


def test_tables_that_are_not_portraits_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"jpeg128": [b""]}), path)
    with pytest.raises(DataError, match="lacks the columns"):
        read_portraits(str(path))
    with pytest.raises(DataError, match="cannot read"):
        read_portraits(str(tmp_path / "none.parquet"))
