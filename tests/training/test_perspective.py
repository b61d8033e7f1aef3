"""The misalignment that HFGI learns to undo."""

from __future__ import annotations

import torch

from ganinv.training.augment import perspective


def test_images_that_are_not_moved_are_the_same() -> None:
    images = torch.rand(2, 3, 16, 12)
    same = perspective(images, torch.Generator().manual_seed(0), probability=0.0)
    torch.testing.assert_close(same, images, atol=1e-5, rtol=1e-5)


def test_corners_come_to_lie_within_reach_and_each_image_has_its_own_move() -> None:
    """A white image in perspective: what was outside is 0, and further inside than corners reach all is white."""
    rng = torch.Generator().manual_seed(3)
    images = torch.ones(32, 1, 64, 64)
    seen = perspective(images, rng, strength=0.25, probability=1.0)
    inside = 8  # 0.25 of half of 64
    torch.testing.assert_close(seen[:, :, inside:-inside, inside:-inside], torch.ones(32, 1, 48, 48))
    lost = 1 - seen.mean(dim=(1, 2, 3))
    assert lost.max() > 0.1
    assert lost.unique().numel() > 16
    again = perspective(images, torch.Generator().manual_seed(3), strength=0.25, probability=1.0)
    assert torch.equal(seen, again)


def test_a_share_of_the_images_is_moved() -> None:
    images = torch.ones(200, 1, 64, 64)
    seen = perspective(images, torch.Generator().manual_seed(1), probability=0.5)
    moved = (seen.mean(dim=(1, 2, 3)) < 1 - 1e-4).float().mean()
    assert 0.35 < moved < 0.6
