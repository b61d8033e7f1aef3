"""The training loop: a function of the seed and the step, whatever happens in between."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.config import validate
from ganinv.errors import ConfigError
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.registry import AnyRecipe
from ganinv.training.batches import DataConfig, MixedBatches
from ganinv.training.recipe import Recipe, Schedule
from ganinv.training.step import Step
from ganinv.training.trainer import Trainer, TrainingStopped
from tests.tiny import tiny_generator

NETWORK = {"base_channels": 8, "pyramid_channels": 8}


class Pictures:
    """Twelve images; it remembers which were read."""

    def __init__(self) -> None:
        self.pixels = torch.randint(
            0, 256, (12, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
        )
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.pixels)

    def load(self, positions: Sequence[int]) -> tuple[Tensor, list[str]]:
        self.read += positions
        return self.pixels[torch.tensor(positions)], [f"image-{p}" for p in positions]


def recipe(**other: Any) -> Recipe:
    given = {"kind": "e4e", "steps": 8, "batch_size": 4, "inverter": NETWORK, "losses": {"distance": 0}, **other}
    return validate(AnyRecipe, given, "test")  # type: ignore[type-abstract,arg-type]


def trainer(g: Generator, made: Recipe, images: Pictures | None = None, **other: Any) -> Trainer:
    return Trainer(made, lambda: made.build(g, {}, None), MixedBatches(made.data, g, made.batch_size, images), **other)


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("optimizer", "ema"), [("muon", None), ("muon", 4.0), ("adam", 4.0), ("ranger", None), ("sgd", None)]
)  # the running mean is the trainer's, not the optimiser's
def test_what_goes_on_from_a_checkpoint_equals_an_undisturbed_run_to_the_bit(optimizer: str, ema: float | None) -> None:
    g = tiny_generator()
    made = recipe(optimizer={"kind": optimizer}, ema=ema, progressive_start=2, progressive_every=2, clip_norm=1.0)
    whole, cut = trainer(g, made, Pictures()), trainer(g, made, Pictures())
    curve = [whole.step() for _ in range(8)]
    first = [cut.step() for _ in range(3)]
    torch.rand(7)  # whatever else draws in this process
    file = io.BytesIO()
    torch.save(cut.state(), file)
    resumed = trainer(g, made, Pictures())
    resumed.load(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    assert first + [resumed.step() for _ in range(5)] == curve
    with whole.finished() as a, resumed.finished() as b:
        for name, tensor in a.state_dict().items():
            assert torch.equal(tensor, b.state_dict()[name]), name


def test_building_a_trainer_leaves_torch_s_own_stream_alone() -> None:
    g = tiny_generator()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    one, two = trainer(g, recipe()), trainer(g, recipe())
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(*(next(iter(t.learner.network.parameters())) for t in (one, two)))


def test_a_loss_that_is_not_finite_stops_before_the_weights_change() -> None:
    g = tiny_generator()
    stopped = trainer(g, recipe(kind="psp", losses={"distance": 0, "l2": 1e39}))
    before = {n: t.clone() for n, t in stopped.learner.network.state_dict().items()}
    with pytest.raises(TrainingStopped, match="not finite at step 1: the last checkpoint stays"):
        stopped.step()
    assert stopped.steps_done == 0
    assert all(torch.equal(t, before[n]) for n, t in stopped.learner.network.state_dict().items())


def test_a_checkpoint_of_another_recipe_is_refused() -> None:
    g = tiny_generator()
    with pytest.raises(ConfigError, match="this checkpoint is of a psp training, the recipe is for e4e"):
        trainer(g, recipe()).load(trainer(g, recipe(kind="psp")).state())


def test_a_batch_that_workers_cannot_share_is_refused() -> None:
    with pytest.raises(ConfigError, match="a batch of 4 cannot be shared by 3 workers"):
        trainer(tiny_generator(), recipe(), world=3)


def test_clipping_bounds_the_step() -> None:
    g = tiny_generator()
    made = recipe(kind="psp", optimizer={"kind": "adam", "lr": 1e-9}, clip_norm=1e-3)
    clipped = trainer(g, made)
    assert clipped.step()["gradient_norm"] > 1e-3
    norm = torch.stack([p.grad.norm() for p in clipped.learner.network.parameters() if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_batches_are_a_function_of_the_step() -> None:
    g, pictures = tiny_generator(), Pictures()
    batches = MixedBatches(DataConfig(), g, 8, pictures)
    steps = [Step(number, 20, seed=5) for number in (0, 1, 2, 7)]
    once = [batches.batch(step) for step in steps]
    again = [MixedBatches(DataConfig(), g, 8, Pictures()).batch(step) for step in reversed(steps)][::-1]
    for a, b in zip(once, again, strict=True):
        assert torch.equal(a.images, b.images)
        assert a.ids == b.ids
        assert a.true_w is not None
        assert len(a.true_w) == 4
        torch.testing.assert_close(a.images[4:], g.synthesize(Code(w=a.true_w)))
    assert not torch.equal(once[0].images, once[1].images)
    assert sorted(pictures.read) == sorted(set(pictures.read))  # each is decoded once and kept


def test_workers_draw_different_images() -> None:
    g = tiny_generator()
    batches = MixedBatches(DataConfig(), g, 8, Pictures())
    one, two = (batches.batch(Step(0, 5, rank=rank, world=2)) for rank in range(2))
    assert (len(one), len(two)) == (4, 4)
    assert not torch.equal(one.images, two.images)


def test_held_out_images_are_never_drawn() -> None:
    pictures = Pictures()
    batches = MixedBatches(DataConfig(real_share=1.0), tiny_generator(), 8, pictures, frozenset({2, 3, 11}))
    for number in range(20):
        batches.batch(Step(number, 20))
    assert set(pictures.read) == set(range(12)) - {2, 3, 11}


def test_images_beyond_the_cache_are_read_again() -> None:
    pictures = Pictures()
    batches = MixedBatches(DataConfig(cache_bytes=3 * 3 * 32 * 32), tiny_generator(), 8, pictures)
    for number in range(12):
        batches.batch(Step(number, 12))
    assert len(pictures.read) > len(set(pictures.read)) + 6


def test_schedule() -> None:
    schedule = Schedule(warmup=4, rampdown=0.5)
    assert [schedule(step, 20) for step in (0, 1, 3, 9, 10, 15, 19)] == [0.25, 0.5, 1.0, 1.0, 1.0, 0.5, 0.1]


@pytest.mark.seconds
def test_a_validation_is_of_the_running_mean() -> None:
    g = tiny_generator()
    averaged = trainer(g, recipe(kind="psp", ema=1000.0, optimizer={"kind": "adam", "lr": 0.01}))
    images = averaged.batches.batch(Step(0, 8)).images
    for _ in range(4):
        averaged.step()
    trained = {n: t.clone() for n, t in averaged.learner.network.state_dict().items()}
    look = averaged.validate(images)
    assert [row.shape for row in look.rows] == [images.shape] * 2
    assert all(torch.equal(t, trained[n]) for n, t in averaged.learner.network.state_dict().items())
    averaged.mean = None
    assert averaged.validate(images).error != look.error
