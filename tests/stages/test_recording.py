"""Recorded steps: what a CUDA graph does on a GPU, its twin does here, by the same rules and to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ganinv.codes.code import Code
from ganinv.generators import fast
from ganinv.optim.batched import Adam
from ganinv.stages import descent
from ganinv.stages.base import Context, StageResult
from ganinv.stages.descent import Stop
from ganinv.stages.lanes import DRAWS, Batch
from ganinv.stages.objective import ReconstructionLoss
from ganinv.stages.optimize import FeatureSettings, NoiseSettings, Optimize
from ganinv.stages.recording import Recording, record
from ganinv.stages.tune import Locality, Tune
from ganinv.stages.variables import Latent
from ganinv.target import Target
from tests.garbage import left_in_cycles
from tests.tiny import random_w, tensors, tiny_generator

STAGES: list[Optimize | Tune] = [
    Optimize(space="w", steps=DRAWS + 4, loss=ReconstructionLoss(distance_weight=0.0)),
    Optimize(space="w", steps=4, noise_maps=NoiseSettings(), features=(FeatureSettings(site="act[1]", lr=0.05),)),
    Optimize(space="s", steps=6),
    Optimize(space="z+", steps=6),
    Optimize(space="w+", steps=8, latent_noise=0.0, optimizer="lbfgs", lr=1.0),
    Tune(steps=6, lr=0.01, stop=Stop(patience=2, tolerance=0.05)),
    Tune(steps=4, lr=0.01, form="low-rank", rank=4, optimizer="muon", lr_rampdown=0.5),
    Tune(steps=4, lr=0.01, form="styles"),
    Tune(steps=4, lr=0.01, locality=Locality(alpha=3.0)),
]


@pytest.fixture(autouse=True)
def plain_afterwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(fast, "_gave_up", False)  # and as it was afterwards
    yield
    fast.fast_path("off")


@pytest.fixture(scope="module")
def context() -> Context:
    return Context(tiny_generator(8), lambda name: None, lanes=4)  # type: ignore[arg-type,return-value]


def same(a: StageResult, b: StageResult) -> None:
    assert repr(a.loss) == repr(b.loss)  # to the bit, and a loss that is not a number is like another
    assert (a.steps, a.stop_reason) == (b.steps, b.stop_reason)
    for x, y in zip(tensors(a.code), tensors(b.code), strict=True):
        assert torch.equal(x, y)


# One of each kind of variable and optimiser; the others are slow.
QUICKER = [STAGES[1], STAGES[4], STAGES[6]]


@pytest.mark.seconds
@pytest.mark.parametrize(
    "stage",
    [stage if stage in QUICKER else pytest.param(stage, marks=pytest.mark.slow) for stage in STAGES],
    ids=lambda s: f"{s.kind}-{getattr(s, 'space', None) or s.form}",
)
def test_recorded_steps_are_the_plain_ones_to_the_bit(context: Context, stage: Optimize | Tune) -> None:
    """Seven images in four lanes, so that lanes change hands and at last fewer are left; a broken one among them."""
    g = context.generator
    images = g.render(Code(w=random_w(g, 7)))
    images[5, 0, 3, 3] = float("nan")
    target, start = Target(images), Code(w=random_w(g, 7, seed=5))
    plain = stage(target, start, context)
    fast.fast_path("graph")
    recorded = stage(target, start, context)
    assert fast.fast_path() == "graph"  # it did not fall back
    same(plain, recorded)
    assert recorded.stop_reason[5] == "not_finite"


@pytest.mark.seconds
def test_a_batch_of_the_same_shapes_is_recorded_once_and_let_go(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph holds the device's memory of a step: it is not to wait for the cycle collector."""
    made: list[int] = []

    class Counted(Recording):
        def __init__(self, advance: Any, batch: Any) -> None:
            made.append(len(batch.count))
            super().__init__(advance, batch)

    monkeypatch.setattr(descent, "Recording", Counted)
    fast.fast_path("graph")
    g = context.generator
    stage = Optimize(space="w", steps=2, latent_noise=0.0, loss=ReconstructionLoss(distance_weight=0.0))
    target = Target(g.render(Code(w=random_w(g, 8))))
    assert not left_in_cycles(lambda: stage(target, None, context), descent.DescentRun, Counted, Batch)
    assert made == [4, 4]  # of two calls


class _Refusing(TorchDispatchMode):
    """Fails where a number on the device is read by the host, which a step must not wait for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise AssertionError("a step reads a number from the device")
        return func(*args, **(kwargs or {}))


@pytest.mark.seconds
@pytest.mark.parametrize("stage", [STAGES[0], STAGES[1], STAGES[4], STAGES[6]], ids=["w", "noise", "lbfgs", "muon"])
def test_no_step_reads_a_number_from_the_device(
    context: Context, stage: Optimize | Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance, seen = descent.DescentRun.advance, list[int]()

    def watched(self: descent.DescentRun, batch: Any) -> Any:
        if not seen:  # the first step reads what no step changes
            seen.append(1)
            return advance(self, batch)
        with _Refusing():
            seen.append(1)
            return advance(self, batch)

    monkeypatch.setattr(descent.DescentRun, "advance", watched)
    g = context.generator
    stage.model_copy(update={"steps": 3})(
        Target(g.render(Code(w=random_w(g, 4)))), Code(w=random_w(g, 4, seed=5)), context
    )
    assert len(seen) == 3


@pytest.mark.seconds
def test_what_cannot_be_recorded_is_computed_step_by_step(context: Context) -> None:
    def extra(code: Code, moment: Any) -> torch.Tensor:
        return code.w.sum(dim=(1, 2)) * float(code.w.sum())  # a number that a graph cannot have

    g = context.generator
    target = Target(g.render(Code(w=random_w(g, 4))))
    run = descent.Descent([Latent("w")], Adam(), steps=2, lr=0.01, extra_loss=extra)
    objective = ReconstructionLoss(distance_weight=0.0).prepare(target, context)
    start = Code(w=random_w(g, 4, seed=5))
    plain = run(target, start, objective, context)
    fast.fast_path("graph")
    with pytest.warns(UserWarning, match="no fast path"):
        given_up = run(target, start, objective, context)
    assert fast.fast_path() == "off"
    same(plain, given_up)


def test_recording_leaves_what_it_tried_as_it_was() -> None:
    x, count = torch.ones(3), torch.zeros(())

    def step(x: torch.Tensor, count: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x.mul_(2)
        count.add_(1)
        return x + count, count * 2

    replay = record(step, [x, count])
    assert (x.tolist(), count.item()) == ([1, 1, 1], 0)
    out, _ = replay()
    assert (x.tolist(), count.item(), out.tolist()) == ([2, 2, 2], 1, [3, 3, 3])
    replay()
    assert (x.tolist(), count.item()) == ([4, 4, 4], 2)
