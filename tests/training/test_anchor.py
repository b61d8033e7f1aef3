"""Anchored adversarial training: half of a batch is held to training images."""

from __future__ import annotations

import pytest
import torch

from ganinv.training.gan import GanTrainer, GanTrainingConfig

CFG = GanTrainingConfig(
    channels=(16, 16, 8, 8),
    z_dim=8,
    w_dim=8,
    mapping_layers=1,
    stages=((32, 1.0),),
    batch_size=8,
    anchor_weight=20.0,
    style_mixing=1.0,
)


@pytest.mark.seconds
def test_anchored_half_renders_its_own_latents() -> None:
    images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    trainer = GanTrainer(CFG, images)
    fake, anchored = trainer._generate()
    assert anchored is not None
    assert trainer.anchors is not None
    w = trainer.g.map(trainer.anchors[anchored])
    from ganinv.codes.code import Code

    torch.testing.assert_close(fake[:4], trainer.g.synthesize(Code(w=w), noise="none"), atol=1e-4, rtol=1e-3)


@pytest.mark.seconds
def test_gradient_pulls_towards_the_image_and_its_mirror() -> None:
    images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    images[..., :16] = 255  # white on the left
    trainer = GanTrainer(CFG, images)
    anchored = torch.tensor([1, 4 + 1])  # an image and its mirror
    gradient, losses = trainer._anchor_gradient(torch.zeros(4, 3, 32, 32), anchored)
    assert gradient.shape == (2, 3, 32, 32)
    assert losses["anchor"] > 0
    assert (gradient[0, :, :, :16] < 0).all()  # going down the gradient makes the left brighter
    assert (gradient[1, :, :, :16] > 0).all()


@pytest.mark.seconds
def test_anchored_training_keeps_the_images() -> None:
    colours = torch.tensor([[230, 30, 30], [30, 230, 30], [30, 30, 230], [230, 230, 30]], dtype=torch.uint8)
    images = colours[:, :, None, None].expand(4, 3, 32, 32).contiguous()
    trainer = GanTrainer(CFG.model_copy(update={"z_dim": 3, "lr": 0.005, "stages": ((32, 2.0),)}), images)

    def error() -> float:
        from ganinv.codes.code import Code

        with torch.no_grad():
            rendered = trainer.g.synthesize(Code(w=trainer.g.map(trainer.anchors[:4])), noise="none")
        return float((rendered.mean(dim=(2, 3)) - (colours.float() / 127.5 - 1)).abs().mean())

    before = error()
    for _ in range(140):
        trainer.step()
    assert error() < 0.6 * before
