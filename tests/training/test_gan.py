"""GAN training: one pass for both networks, phases, growth, resume, augmentation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from ganinv.codes.code import Code
from ganinv.errors import ConfigError
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.stylegan2 import Generator
from ganinv.training.augment import AdaptiveProbability, augment, jitter
from ganinv.training.gan import GanRecipe
from ganinv.training.step import Step
from tests.tiny import tiny_generator
from tests.training.gans import TINY, gan, learner, noise, through_a_file

SMALL = {"size": 16, "channels": (16, 16, 8)}


def test_one_pass_gives_both_gradients() -> None:
    torch.manual_seed(0)
    d, x = Discriminator(16, (8, 8, 8)), torch.randn(8, 3, 16, 16, requires_grad=True)
    logits = d(x, isolate=True)
    (from_d,) = torch.autograd.grad(F.softplus(logits).mean(), x)
    (for_g,) = torch.autograd.grad(F.softplus(-d(x, isolate=True)).mean(), x)
    torch.testing.assert_close(from_d * -torch.exp(-logits.detach())[:, :, None, None], for_g, atol=1e-8, rtol=1e-4)
    torch.testing.assert_close(logits, d(x))  # isolation changes gradients, not values


@pytest.mark.seconds
def test_what_goes_on_from_a_checkpoint_equals_an_undisturbed_run_to_the_bit() -> None:
    """Cut in the warm start, and after it: critics, augmentation, path lengths and components go on."""
    settings = {
        **SMALL,
        "steps": 8,
        "warm_start": {"steps": 3},
        "anchor_weight": 10.0,
        "path_weight": 1.0,
        "path_every": 2,
        "ada_start": 0.3,
        "ema": 3.0,
        "critic_rampup_kimg": 0.02,
    }
    whole = gan(**settings)
    curve = [whole.step() for _ in range(8)]
    assert "decoding" in curve[2]
    assert {"d_loss", "r1", "anchor", "path_penalty"} <= curve[3].keys()
    for cut_at in (2, 5):
        cut = gan(**settings)
        first = [cut.step() for _ in range(cut_at)]
        torch.rand(5)  # whatever else draws in this process
        resumed = gan(**settings)
        resumed.load(through_a_file(cut))
        assert first + [resumed.step() for _ in range(8 - cut_at)] == curve
        with whole.finished() as a, resumed.finished() as b:
            for name, tensor in a.state_dict().items():
                assert torch.equal(tensor, b.state_dict()[name]), name
        for name, tensor in learner(whole).d.state_dict().items():
            assert torch.equal(tensor, learner(resumed).d.state_dict()[name]), name


@pytest.mark.seconds
def test_a_checkpoint_of_another_recipe_is_refused() -> None:
    trainer = gan(**SMALL)
    with pytest.raises(ConfigError, match=r"this checkpoint is of a e4e training, the recipe is for gan"):
        trainer.load({**trainer.state(), "kind": "e4e"})


@pytest.mark.seconds
def test_growth_starts_from_the_upsampled_image() -> None:
    small = gan(**SMALL)
    for _ in range(2):
        small.step()
    with small.finished() as network:
        start = Generator(network.cfg)
        start.load_state_dict(network.state_dict())
    start.discriminator = learner(small).d
    z = torch.randn(2, 8)
    expected = start.synthesis.upsample(start.synthesize(Code(w=start.map(z)), noise="none"))
    grown = learner(gan(start=start))
    large = grown.network.synthesize(Code(w=grown.network.map(z)), noise="none")
    torch.testing.assert_close(large, expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(grown.d.blocks[-1].conv0.weight, start.discriminator.blocks[-1].conv0.weight)


def test_a_training_goes_on_from_a_generator_of_its_shape() -> None:
    begun = gan()
    begun.step()
    start = learner(begun).network
    start.discriminator = learner(begun).d
    again = learner(gan(start=start))
    for name, tensor in again.network.state_dict().items():
        assert torch.equal(tensor, start.state_dict()[name]), name
    for name, tensor in again.d.state_dict().items():
        assert torch.equal(tensor, start.discriminator.state_dict()[name]), name


def test_what_cannot_be_started_from_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"start is a generator of 32 pixels .* and the recipe's has 32"):
        gan(start=tiny_generator())
    with pytest.raises(ConfigError, match="a warm start would undo what start has learned: leave one out"):
        gan(start=tiny_generator(), warm_start={"steps": 2})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 48}, "size must be a power of two .*: up to 32 here, got 48"),
        ({"size": 64}, "size must be a power of two .*: up to 32 here, got 64"),
        ({"data": {"real_share": 0.5}}, "a generator learns from real images as they are"),
        ({**SMALL, "z_dim": 1000, "anchor_weight": 1.0}, "images of 16 pixels have 768 components, z_dim is 1000"),
    ],
)
def test_recipes_that_make_no_sense(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GanRecipe.model_validate({**TINY, **changes})


def test_too_few_images_are_refused() -> None:
    warm = GanRecipe.model_validate({**TINY, "z_dim": 20, "warm_start": {"steps": 2}})
    with pytest.raises(
        ConfigError, match="from 20 principal components, and 10 images and their mirror images have 19"
    ):
        warm.check_images(10)
    warm.check_images(11)
    with pytest.raises(ConfigError, match="5 images are fewer than a batch of 8"):
        GanRecipe.model_validate(TINY).check_images(5)
    with pytest.raises(ConfigError, match=r"an image has 20 pixels a side, fewer than the 32 .*: set size to 16"):
        GanRecipe.model_validate(TINY).check_images(16, lambda: [40, 20])
    with pytest.raises(ConfigError, match="a generator learns from images: give a data set with --dataset"):
        gan().learner.begin(None)


@pytest.mark.slow
def test_workers_that_train_together_stay_together(tmp_path: Path) -> None:
    """Each sees its own half of a batch, and all keep the same networks, critics, augmentation and mean path length."""
    code = f"""
import sys, torch
from tests.training.gans import gan
rank = int(sys.argv[1])
torch.distributed.init_process_group("gloo", init_method="file://{tmp_path}/meet", rank=rank, world_size=2)
settings = {{"size": 16, "channels": (16, 16, 8), "steps": 5, "ada_start": 0.3, "anchor_weight": 5.0, "path_weight": 1.0,
            "path_every": 2, "warm_start": {{"steps": 1}}}}
trainer = gan(rank=rank, world=2, **settings)
curve = [trainer.step() for _ in range(5)]
torch.save({{"state": trainer.state(), "curve": curve}}, f"{tmp_path}/{{rank}}.pt")
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    workers = [subprocess.Popen([sys.executable, "-c", code, str(rank)], env=environment) for rank in range(2)]
    assert [worker.wait(300) for worker in workers] == [0, 0]
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert one["curve"] == two["curve"]
    assert one["state"]["players"]["augmentation"] == two["state"]["players"]["augmentation"]
    assert one["state"]["players"]["path length"] == two["state"]["players"]["path length"]
    for part in (lambda s: s["network"], lambda s: s["players"]["discriminator"]["d"]):
        for name, tensor in part(one["state"]).items():
            assert torch.equal(tensor, part(two["state"])[name]), name


@pytest.mark.seconds
def test_learning_moves_towards_the_data() -> None:
    """A data set of one colour: after a short training the samples have it."""
    colour = torch.tensor([200, 60, 90], dtype=torch.uint8)
    images = colour[None, :, None, None].expand(8, 3, 16, 16).contiguous()
    optimizer = {"kind": "muon", "lr": 0.012, "adam_lr": 0.015, "momentum": 0.9, "betas": (0.0, 0.99)}
    trainer = gan(images, **SMALL, steps=60, optimizer=optimizer, critic_lr=0.015, ema=30.0)
    z = torch.randn(16, 8)

    def error() -> float:
        with torch.no_grad(), trainer.finished() as g:
            samples = g.synthesize(Code(w=g.map(z)), noise="none").mean(dim=(0, 2, 3))
        return float((samples - (colour.float() / 127.5 - 1)).abs().max())

    before = error()
    for _ in range(45):
        trainer.step()
    assert error() < 0.5 * before


@pytest.mark.seconds
def test_a_look_is_at_samples_of_the_running_mean() -> None:
    trainer = gan(**SMALL, ema=1000.0)
    images = noise(16, 16).float() / 127.5 - 1
    begun = trainer.validate(images)
    assert (begun.measure, [row.shape for row in begun.rows]) == ("kid", [(8, 3, 16, 16)] * 2)
    assert begun.noise > 0
    assert trainer.validate(images).error == begun.error
    trainer.step()
    assert trainer.validate(images).error != begun.error
    flat = trainer.validate(torch.zeros_like(images))
    assert flat.error > begun.error + 3 * begun.noise  # what has no detail at all is further away


def test_augmentation() -> None:
    x = torch.rand(64, 3, 16, 16) * 2 - 1
    assert torch.equal(augment(x, 0.0), x)
    rng = torch.Generator().manual_seed(0)
    changed = (augment(x, 0.1, rng) - x).abs().flatten(1).amax(1) > 1e-3
    assert 0.2 < changed.float().mean() < 0.9  # each of several transformations hits a tenth of the images
    y = x.clone().requires_grad_(True)
    augment(y, 0.8, rng).sum().backward()
    assert torch.isfinite(y.grad).all()
    assert y.grad.abs().sum() > 0


def test_jitter_stays_near_and_in_range() -> None:
    x = F.interpolate(torch.rand(8, 3, 4, 4) * 2 - 1, size=32, mode="bilinear")
    y, _ = jitter(x, torch.Generator().manual_seed(0))
    assert y.shape == x.shape
    assert y.abs().max() <= 1
    assert (y - x).abs().flatten(1).mean(1).min() > 0.01  # every image changes,
    assert (y - x).abs().mean() < 0.25  # and none becomes another picture
    assert torch.equal(y, jitter(x, torch.Generator().manual_seed(0))[0])


def test_probability_follows_the_overfitting() -> None:
    ada = AdaptiveProbability(target=0.6, speed_kimg=1.0, interval=2)
    for _ in range(10):
        ada.update(torch.full((10, 1), 3.0))  # D is certain of every real image
    assert ada.p == pytest.approx(0.1)
    for _ in range(40):
        ada.update(torch.full((10, 1), -3.0))
    assert ada.p == 0.0


@pytest.mark.seconds
def test_path_regularisation_evens_out_the_lengths() -> None:
    """Its gradient alone, followed for some steps: on the same draws, lengths of paths have come closer to their mean."""
    trained = learner(gan(**SMALL, path_weight=1.0))
    optimizer = torch.optim.Adam(trained.network.parameters(), lr=0.01)

    def unevenness() -> float:
        trained.path.mean = None
        terms = trained._evened(64, Step(0, 1))
        return float(terms["path_penalty"][1].detach() / terms["path_length"][1] ** 2)

    before = unevenness()
    for number in range(30):
        optimizer.zero_grad()
        weight, penalty = trained._evened(64, Step(1 + number, 31))["path_penalty"]
        (weight * penalty).backward()
        optimizer.step()
    assert unevenness() < 0.85 * before


def test_anchors_fade_and_bfloat16_trains() -> None:
    trainer = gan(
        **SMALL, anchor_weight=20.0, anchor_final=0.1, precision="bfloat16", path_weight=1.0, path_every=1, steps=10
    )
    fake, real = torch.zeros(2, 3, 16, 16), torch.ones(2, 3, 16, 16)
    weights = [learner(trainer)._anchored(fake, real, Step(n, 10))["anchor"][0] for n in (0, 5, 10)]
    assert weights == pytest.approx([20.0, 11.0, 2.0])
    losses = trainer.step()
    assert {"path_penalty", "path_length", "anchor"} <= losses.keys()
    assert all(torch.isfinite(p).all() for p in learner(trainer).network.parameters())
    assert all(p.dtype is torch.float32 for p in learner(trainer).network.parameters())
