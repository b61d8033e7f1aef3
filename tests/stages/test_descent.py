"""The descent: lanes, continuous batching, stops, and that the rest of a batch leaves no trace in a result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from ganinv.codes.code import Code
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.optim.batched import LBFGS, Adam, BatchedMuon, Matrix
from ganinv.stages.base import Context, StageResult
from ganinv.stages.batches import batches
from ganinv.stages.descent import Descent, Stop
from ganinv.stages.memory import Gauge, lanes_that_fit
from ganinv.stages.objective import ReconstructionLoss
from ganinv.stages.optimize import FeatureSettings, NoiseSettings, Optimize
from ganinv.stages.tune import Locality, Tune
from ganinv.stages.variables import Latent, Variable, Weights
from ganinv.target import Target
from tests.garbage import left_in_cycles
from tests.tiny import random_w, tensors, tiny_generator


@pytest.fixture(scope="module")
def context() -> Context:
    return Context(tiny_generator(), lambda name: None, lanes=4)


@pytest.fixture(scope="module")
def embedded() -> Context:
    return Context(open_generator(EMBEDDED), lambda name: None)


def targets(context: Context, count: int) -> Target:
    images = context.generator.render(Code(w=random_w(context.generator, count)))
    return Target(images, [f"image-{i}" for i in range(count)])


def same(a: StageResult, b: StageResult, of: Sequence[int] | None = None) -> None:
    """Rows ``of`` of a (all by default) are b, to the bit."""
    rows = range(len(a.code)) if of is None else of
    for k, i in enumerate(rows):
        assert a.loss[i] == b.loss[k]
        assert (a.steps[i], a.stop_reason[i]) == (b.steps[k], b.stop_reason[k])
        for x, y in zip(tensors(a.code[i]), tensors(b.code[k]), strict=True):
            assert torch.equal(x, y)


STAGES = [
    Optimize(space="w", steps=6, noise_maps=NoiseSettings()),
    Optimize(space="w+", steps=6, latent_noise=0.0, rows=(2, 5)),
    Optimize(space="s", steps=6),
    Optimize(space="z", steps=6),
    Optimize(space="z+", steps=6),
    Optimize(space="w", steps=6, features=(FeatureSettings(site="act[3]", lr=0.05),)),
    Optimize(space="w+", steps=12, latent_noise=0.0, optimizer="lbfgs", lr=1.0),
]
TUNINGS = [
    Tune(steps=6, lr=0.01),
    Tune(steps=6, lr=0.01, form="low-rank", rank=2),
    Tune(steps=6, lr=0.01, form="low-rank", rank=4, optimizer="muon"),
    Tune(steps=6, lr=0.01, optimizer="muon"),
    Tune(steps=6, lr=0.01, form="styles"),
    Tune(steps=6, lr=0.01, locality=Locality(alpha=3.0)),
]


@pytest.mark.seconds
@pytest.mark.parametrize("stage", [STAGES[0], STAGES[-1], TUNINGS[2], TUNINGS[5]])
def test_no_tensor_waits_for_the_collector(context: Context, stage: Optimize | Tune) -> None:
    """Over many images they were a hundred megabytes: the collector looks when many objects came, however large they are."""
    target, short = targets(context, 2), stage.model_copy(update={"steps": 2})
    pivot = Code(w=random_w(context.generator, 2, seed=1))
    assert not left_in_cycles(lambda: short(target, pivot, context))


# With two threads, those whose arithmetic differs: the operations themselves are looked at with both (test_company.py).
WITH_TWO_THREADS = [STAGES[0], STAGES[-1], TUNINGS[0], TUNINGS[2]]


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("each_number_of_threads", "stage"),
    [*((1, stage) for stage in (*STAGES, *TUNINGS)), *((2, stage) for stage in WITH_TWO_THREADS)],
    ids=lambda v: f"{v}-threads" if isinstance(v, int) else f"{v.kind}-{getattr(v, 'space', None) or v.form}",
    indirect=["each_number_of_threads"],
)
@pytest.mark.usefixtures("each_number_of_threads")
def test_company_leaves_no_trace(context: Context, stage: Optimize | Tune) -> None:
    """More images than lanes, in another order, and fewer of them: the same bits."""
    target = targets(context, 7)
    start = Code(w=random_w(context.generator, 7, seed=5))
    full = stage(target, start, context)
    order = [6, 2, 0, 3]
    some = Target(target.images[order], [target.ids[i] for i in order])
    same(full, stage(some, start[order], replace(context, lanes=8)), order)


@pytest.mark.slow
@pytest.mark.usefixtures("each_number_of_threads")
def test_company_leaves_no_trace_at_real_widths(embedded: Context) -> None:
    target = targets(embedded, 6)
    start = Code(w=random_w(embedded.generator, 6, seed=5))
    for stage in (
        Optimize(space="w", steps=3, noise_maps=NoiseSettings()),
        Tune(steps=2),
        Tune(steps=2, form="low-rank", optimizer="muon"),
    ):
        full = stage(target, start, embedded)
        some = Target(target.images[3:5], target.ids[3:5])
        same(full, stage(some, start[3:5], embedded), [3, 4])


@pytest.mark.seconds
@pytest.mark.parametrize("stage", [STAGES[0], TUNINGS[0]], ids=["optimize", "tune"])
@pytest.mark.usefixtures("each_number_of_threads")
def test_a_broken_image_ends_alone(context: Context, stage: Optimize | Tune) -> None:
    target = targets(context, 6)
    start = Code(w=random_w(context.generator, 6, seed=5))
    images = target.images.clone()
    images[1, 0, 3, 3] = float("nan")
    images[4] = float("inf")
    result = stage(Target(images, target.ids), start, context)
    assert [i for i, reason in enumerate(result.stop_reason) if reason == "not_finite"] == [1, 4]
    assert result.steps[1] == result.steps[4] == 0
    good = [0, 2, 3, 5]
    same(result, stage(Target(target.images[good], [target.ids[i] for i in good]), start[good], context), good)


@pytest.mark.seconds
def test_stops_by_distance_and_by_plateau_do_not_wait_for_the_look(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = targets(context, 6)
    start = Code(w=random_w(context.generator, 6, seed=5))
    free = Tune(steps=11, lr=0.01)(target, start, context)
    threshold = sorted(curve[10] for curve in free.loss)[2]
    stage = Tune(steps=30, lr=0.01, stop=Stop(below=threshold, patience=3, tolerance=0.1))
    seldom = _looking_every(monkeypatch, 7, lambda: stage(target, start, context))
    always = stage(target, start, context)
    same(always, seldom)
    assert set(always.stop_reason) <= {"threshold", "plateau", "cap"}
    assert set(always.stop_reason) != {"cap"}
    for steps, curve in zip(always.steps, always.loss, strict=True):
        assert len(curve) in (steps, steps + 1)  # the loss that met the rule is the last one


def _looking_every(monkeypatch: pytest.MonkeyPatch, steps: int, run: object) -> StageResult:
    from ganinv.stages import descent

    init = descent.DescentRun.__init__

    def patched(self: descent.DescentRun, *args: object) -> None:
        init(self, *args)
        self.look_every = steps

    with monkeypatch.context() as m:
        m.setattr(descent.DescentRun, "__init__", patched)
        return run()  # type: ignore[operator]


@pytest.mark.seconds
def test_a_full_memory_halves_the_lanes_and_changes_nothing(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device's limit is played by a synthesis that refuses more than four lanes, on the third step."""
    target = targets(context, 9)
    start = Code(w=random_w(context.generator, 9, seed=5))
    stage = Tune(steps=5, lr=0.01)
    roomy = stage(target, start, replace(context, lanes=8))
    synthesize, calls = context.generator.synthesize, [0]

    def limited(code: Code, *args: object, **kwargs: object) -> torch.Tensor:
        calls[0] += 1
        if calls[0] > 2 and len(code) > 4:
            raise torch.OutOfMemoryError("full")
        return synthesize(code, *args, **kwargs)

    with monkeypatch.context() as m:
        m.setattr(context.generator, "synthesize", limited)
        same(roomy, stage(target, start, replace(context, lanes=8)))


@pytest.mark.seconds
def test_lanes_are_refilled(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight images of very different difficulty in four lanes take fewer passes than two full batches of the cap."""
    g = context.generator
    w = random_w(g, 8, seed=5)
    images = g.render(Code(w=w))
    start = w.clone()
    start[1::2] = random_w(g, 4, seed=9)  # every other image starts at its answer
    passes = [0]
    synthesize = g.synthesize

    def counted(code: Code, *args: object, **kwargs: object) -> torch.Tensor:
        passes[0] += 1
        return synthesize(code, *args, **kwargs)

    with monkeypatch.context() as m:
        m.setattr(g, "synthesize", counted)
        result = Tune(steps=14, lr=1e-3, stop=Stop(below=1e-6))(
            Target(images, list("abcdefgh")), Code(w=start), context
        )
    assert result.stop_reason == ["threshold", "cap"] * 4
    assert passes[0] <= 19


@pytest.mark.seconds
def test_lanes_grow_to_the_memory(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no GPU here: the gauge's reading is given, what follows from it is real."""
    assert lanes_that_fit(4, used=4 << 30, free=40 << 30) == 32
    assert lanes_that_fit(16, used=16 << 30, free=1 << 30) == 16
    target = targets(context, 11)
    start = Code(w=random_w(context.generator, 11, seed=5))
    stage = Tune(steps=5, lr=0.01)
    alone = stage(target, start, context)
    widths: list[int] = []
    synthesize = context.generator.synthesize

    def seen(code: Code, *args: object, **kwargs: object) -> torch.Tensor:
        widths.append(len(code))
        return synthesize(code, *args, **kwargs)

    with monkeypatch.context() as m:
        m.setattr(Gauge, "lanes", lambda self, now: 8)
        m.setattr(context.generator, "synthesize", seen)
        same(alone, stage(target, start, replace(context, grow=True)))
    assert widths[0] == 4
    assert max(widths) == 8


def test_adam_is_adam() -> None:
    torch.manual_seed(0)
    mine = torch.randn(3, 4)
    theirs = mine.clone().requires_grad_(True)
    adam, reference = Adam(), torch.optim.Adam([theirs], lr=0.1)
    state, count, move = adam.start(mine), torch.zeros(3), torch.ones(3, dtype=torch.bool)
    for _ in range(10):
        x = mine.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad((x**3).abs().sum(), x)
        adam.step(mine, gradient, torch.zeros(3), torch.full((3, 1), 0.1), count, move, state)
        count += 1
        reference.zero_grad()
        (theirs**3).abs().sum().backward()
        reference.step()
    torch.testing.assert_close(mine, theirs.detach(), atol=1e-5, rtol=1e-5)


def test_muon_makes_orthogonal_steps_for_matrices_alone() -> None:
    torch.manual_seed(0)
    optimizer, x = BatchedMuon(vectors=0.5), torch.zeros(2, 3 * 5 + 4)
    state = optimizer.start(x)
    move = torch.tensor([True, False])
    gradient = torch.randn(2, 19)
    gradient[1] = float("nan")
    optimizer.step(x, gradient, torch.zeros(2), torch.full((2, 1), 0.1), torch.zeros(2), move, state, [Matrix(0, 3, 5)])
    singular = torch.linalg.svdvals(x[0, :15].view(3, 5)) / (0.1 * 5**0.5)
    assert (singular > 0.6).all()
    assert (singular < 1.3).all()
    torch.testing.assert_close(x[0, 15:], -0.05 * gradient[0, 15:].sign())  # Adam's first step
    assert x[1].count_nonzero() == 0


def test_each_variable_has_its_own_matrices(context: Context) -> None:
    """Under one Muon, weights take the step of a matrix and a latent Adam's, whichever comes first."""
    target, start = targets(context, 3), Code(w=random_w(context.generator, 3, seed=5))
    objective = ReconstructionLoss().prepare(target, context)
    variables: list[Variable] = [Weights(layers=("convs.0.weight",)), Latent("w+")]
    for order in (variables, variables[::-1]):
        code = Descent(order, BatchedMuon(vectors=0.5), steps=1, lr=0.01)(target, start, objective, context).code
        assert code.weights is not None
        moved = code.weights["convs.0.weight"]
        assert isinstance(moved, torch.Tensor)
        singular = torch.linalg.svdvals(moved.flatten(2)) / (0.01 * moved[0, 0].numel() ** 0.5)
        assert (singular > 0.6).all()
        assert (singular < 1.3).all()
        torch.testing.assert_close((code.w - start.w).abs().median(), torch.tensor(0.5 * 0.01))  # Adam's first step


def test_lbfgs_finds_minima_row_by_row() -> None:
    """Rosenbrock's valley from three starts, and one row that stands still."""
    x = torch.tensor([[-1.2, 1.0], [2.0, 2.0], [0.0, 0.0], [5.0, 5.0]], dtype=torch.float64)
    optimizer, count = LBFGS(), torch.zeros(4)
    state, move = optimizer.start(x), torch.tensor([True, True, True, False])
    for _ in range(120):
        leaf = x.clone().requires_grad_(True)
        loss = (1 - leaf[:, 0]) ** 2 + 100 * (leaf[:, 1] - leaf[:, 0] ** 2) ** 2
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        optimizer.step(x, gradient, loss.detach(), torch.ones(4, 1, dtype=torch.float64), count, move, state)
        count += 1
    torch.testing.assert_close(optimizer.result(x, state)[:3], torch.ones(3, 2, dtype=torch.float64), atol=1e-4, rtol=0)
    assert x[3].tolist() == [5.0, 5.0]


@pytest.mark.seconds
def test_lbfgs_beats_adam_at_equal_evaluations(context: Context) -> None:
    target = targets(context, 4)
    loss = ReconstructionLoss(distance_weight=0.0)
    plain = {"space": "w+", "steps": 30, "latent_noise": 0.0, "loss": loss}
    adam = Optimize(lr=0.05, **plain)(target, None, context)
    lbfgs = Optimize(lr=1.0, optimizer="lbfgs", **plain)(target, None, context)
    assert sum(min(c) for c in lbfgs.loss) < sum(c[-1] for c in adam.loss)


def test_masked_targets_have_no_gradient_outside(context: Context) -> None:
    g = context.generator
    target = targets(context, 2)
    masks = torch.zeros(2, 1, g.resolution, g.resolution)
    masks[:, :, :16, :16] = 1
    images = g.render(Code(w=random_w(g, 2, seed=3))).requires_grad_(True)
    loss = ReconstructionLoss(distance_weight=0.0).prepare(Target(target.images, target.ids, masks), context)
    value, _ = loss(images, Code(w=random_w(g, 2)), loss.reference([0, 1]))
    (gradient,) = torch.autograd.grad(value.sum(), images)
    assert gradient[:, :, 16:].count_nonzero() == gradient[:, :, :, 16:].count_nonzero() == 0
    assert gradient[:, :, :16, :16].count_nonzero() > 0


def test_batches_cover_every_image_once() -> None:
    for count, most in ((1, 16), (17, 16), (32, 16), (5, 4), (3, 1), (7, 6)):
        seen = [i for index, real in batches(count, most) for i in index[:real]]
        assert seen == list(range(count))
        assert all(len(index) % 4 == 0 for index, _ in batches(count, most)) or most == 1
