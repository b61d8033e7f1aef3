"""Batches with something taken away, and with masks: a function of seed, step and worker; pairs that fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ganinv.config import validate
from ganinv.errors import ConfigError, DataError
from ganinv.training.batches import Batch, DataConfig, MixedBatches
from ganinv.training.masks import INTEREST, StoredMasks, grown
from ganinv.training.step import Step
from tests.tiny import tiny_generator

STROKES = {"kind": "strokes", "count": [3, 3]}


class Numbered:
    """Images whose pixels all have the value of their position."""

    def __init__(self, count: int = 10) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def load(self, positions: Sequence[int]) -> tuple[Tensor, list[str]]:
        stack = torch.stack([torch.full((3, 32, 32), p, dtype=torch.uint8) for p in positions])
        return stack, [f"image-{p}" for p in positions]


class Ramps:
    """Images that are brighter to the right, in all sizes of slope."""

    def __len__(self) -> int:
        return 8

    def load(self, positions: Sequence[int]) -> tuple[Tensor, list[str]]:
        ramp = torch.linspace(0, 255, 32).round().to(torch.uint8).expand(3, 32, 32)
        return torch.stack([ramp for _ in positions]), [f"image-{p}" for p in positions]


def batches(images: Any = None, size: int = 8, held_out: frozenset[int] = frozenset(), **data: Any) -> MixedBatches:
    cfg = validate(DataConfig, {"jitter": False, "flip": False, **data}, "data")
    return MixedBatches(cfg, tiny_generator(), size, images, held_out)


def same(one: Batch, two: Batch) -> bool:
    return torch.equal(one.images, two.images) and torch.equal(one.target, two.target)


def test_degraded_batches_are_a_function_of_seed_step_and_worker() -> None:
    made = batches(Numbered(), degrade={"choose": [STROKES]})
    first = made.batch(Step(3, 9, seed=1))
    again = batches(Numbered(), degrade={"choose": [STROKES]}).batch(Step(3, 9, seed=1))
    assert same(first, again)
    hole = first.masks["hole"].expand_as(first.images) > 0
    assert (first.images[hole] == 1).all()
    assert first.degraded is not None
    assert first.degraded.all()
    plain = batches(Numbered()).batch(Step(3, 9, seed=1))
    assert torch.equal(first.target, plain.target)  # what else is drawn stays as it was
    whole = first.masks["hole"]
    for other in (Step(4, 9, seed=1), Step(3, 9, seed=2)):
        assert not torch.equal(made.batch(other).masks["hole"], whole)
    one, two = (made.batch(Step(3, 9, seed=1, rank=rank, world=2)) for rank in range(2))
    assert not torch.equal(one.masks["hole"], two.masks["hole"])


def test_a_share_of_real_and_of_generated_images_is_degraded() -> None:
    batch = batches(Numbered(), degrade={"choose": [STROKES], "share": 0.5}).batch(Step(0, 1))
    assert batch.degraded is not None
    assert batch.degraded.tolist() == [False, False, True, True, False, False, True, True]
    assert torch.equal(batch.images[~batch.degraded], batch.target[~batch.degraded])


@pytest.mark.seconds
def test_two_domains_share_no_image() -> None:
    degrade = {"choose": [STROKES], "share": 0.5, "unpaired": True}
    made = batches(Numbered(11), held_out=frozenset({0, 3}), real_share=1.0, degrade=degrade)
    seen: dict[bool, set[int]] = {True: set(), False: set()}
    for number in range(40):
        batch = made.batch(Step(number, 40))
        assert batch.degraded is not None
        for name, lost in zip(batch.ids, batch.degraded.tolist(), strict=True):
            seen[lost].add(int(name.removeprefix("image-")))
    assert seen == {False: {2, 4, 6, 8}, True: {1, 5, 7, 9}}
    with pytest.raises(
        ConfigError, match="unpaired cuts the data set into two halves, and of 2 images, 1 of them held"
    ):
        batches(Numbered(2), held_out=frozenset({1}), degrade=degrade)


def test_a_data_set_smaller_than_a_batch_is_drawn_from_again() -> None:
    batch = batches(Numbered(3), size=8, real_share=1.0).batch(Step(0, 1))
    assert len(batch) == 8
    assert set(batch.ids) <= {"image-0", "image-1", "image-2"}


def test_held_out_images_are_degraded_alike_at_every_look() -> None:
    made = batches(degrade={"choose": [STROKES]})
    images = torch.zeros(4, 3, 32, 32)
    assert torch.equal(made.degraded(images, Step(0, 1)), made.degraded(images, Step(0, 1)))
    assert not torch.equal(made.degraded(images, Step(0, 1)), images)


def test_masks_of_a_segmenter_are_of_the_clean_images() -> None:
    batch = batches(masks={"segmenter": "aligned-face"}, degrade={"choose": [STROKES]}).batch(Step(0, 1))
    mask = batch.masks[INTEREST]
    assert mask.shape == (8, 1, 32, 32)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert mask[0, 0, 16, 16] == 1
    assert mask[0, 0, 0, 0] == 0
    assert batch.unmasked == 0


def test_images_without_a_face_train_unmasked_and_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    made = batches(masks={"segmenter": "aligned-face"})

    class Blind:
        moves = False

        def __call__(self, images: Tensor, ids: Sequence[str]) -> Tensor:
            found = torch.zeros(len(images), 1, 32, 32)
            found[0, 0, 4:20, 4:20] = 1
            return found

    made._masks = Blind()  # type: ignore[assignment]
    batch = made.batch(Step(0, 1))
    assert batch.unmasked == 7
    assert batch.masks[INTEREST][1:].all()
    assert batch.masks[INTEREST][0].sum() == 256


def test_an_unknown_region_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"segmenter 'aligned-face' has no region 'beard': data\.masks\.regions may be"
    ):
        batches(masks={"segmenter": "aligned-face", "regions": ["beard"]})


def test_stored_masks_move_with_their_images(tmp_path: Path) -> None:
    ramp = np.repeat(np.linspace(0, 255, 64, dtype=np.uint8)[None], 64, axis=0)
    for number in range(8):
        Image.fromarray(ramp).save(tmp_path / f"image-{number}.png")  # twice as large as the images
    made = batches(Ramps(), real_share=1.0, masks={"folder": str(tmp_path)}, flip=True, jitter=True)
    batch = made.batch(Step(0, 1))
    mask = batch.masks[INTEREST][:, 0]
    falls = [bool(row[0] > row[-1]) for row in mask.mean(1)]
    assert set(falls) == {True, False}
    assert falls == [bool(row[0] > row[-1]) for row in batch.target.mean(dim=(1, 2))]
    still = batches(Ramps(), real_share=1.0, masks={"folder": str(tmp_path)}, flip=True).batch(Step(0, 1))
    torch.testing.assert_close(still.masks[INTEREST][:, 0], (still.target[:, 0] + 1) / 2, atol=0.02, rtol=0)


def test_masks_that_are_missing_or_not_square_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder of masks at"):
        StoredMasks(str(tmp_path / "none"))
    Image.new("L", (64, 32)).save(tmp_path / "image-0.png")
    stored = StoredMasks(str(tmp_path))
    with pytest.raises(DataError, match=r"1 of 2 images have no mask in .*, the first is image-1\.png"):
        stored.check(["image-0", "image-1"])
    with pytest.raises(DataError, match=r"image-0\.png is 64x32; .* a mask must be square"):
        stored(torch.zeros(1, 3, 32, 32), ["image-0"])
    (tmp_path / "image-2.png").write_text("no picture")
    with pytest.raises(DataError, match=r"image-2\.png is not an image"):
        stored(torch.zeros(1, 3, 32, 32), ["image-2"])
    with pytest.raises(ConfigError, match=r"has masks of real images: set data\.real_share to 1"):
        batches(Numbered(), masks={"folder": str(tmp_path)})
    with pytest.raises(ConfigError, match="give either segmenter or folder"):
        batches(masks={})


def test_masks_grow() -> None:
    mask = torch.zeros(1, 1, 32, 32)
    mask[0, 0, 16, 16] = 1
    assert grown(mask, 0.0).sum() == 1
    assert grown(mask, 2 / 32).sum() == 25
