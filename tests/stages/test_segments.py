"""ChunkyGAN: a latent per segment, each a problem of its own; masks given, made and learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from ganinv.codes.code import Code, Segments
from ganinv.directions.direction import Direction
from ganinv.editing import Edit
from ganinv.errors import ConfigError
from ganinv.stages.base import Context, StageResult
from ganinv.stages.joint_segments import JointSegments, MaskLogits
from ganinv.stages.objective import ReconstructionLoss
from ganinv.stages.optimize import NoiseSettings, Optimize
from ganinv.stages.segment import Segment
from ganinv.stages.segment_masks import MaskSource, dilate
from ganinv.stages.tune import Tune
from ganinv.target import Target
from tests.tiny import random_w, tiny_generator

GRID = MaskSource(grid=(1, 2))


@pytest.fixture(scope="module")
def context() -> Context:
    return Context(tiny_generator(), lambda name: None, lanes=4)


def targets(context: Context, count: int, **more: torch.Tensor) -> Target:
    images = context.generator.render(Code(w=random_w(context.generator, count)))
    return Target(images, [f"image-{i}" for i in range(count)], **more)


def some(target: Target, index: Sequence[int]) -> Target:
    at = list(index)
    segments = None if target.segments is None else {name: m[at] for name, m in target.segments.items()}
    return Target(
        target.images[at], [target.ids[i] for i in at], None if target.masks is None else target.masks[at], segments
    )


def same(a: StageResult, b: StageResult, of: Sequence[int]) -> None:
    """Rows ``of`` of a are b, to the bit."""
    for k, i in enumerate(of):
        assert a.loss[i] == b.loss[k]
        assert (a.steps[i], a.stop_reason[i]) == (b.steps[k], b.stop_reason[k])
        assert torch.equal(a.code.w[i], b.code.w[k])
        one, two = a.code[i].segments, b.code[k].segments
        assert torch.equal(one.w, two.w)
        assert torch.equal(one.masks, two.masks)
        for name, offset in (one.styles or {}).items():
            assert torch.equal(offset, two.styles[name])


def quick(space: str = "w+", steps: int = 5, dispersion: float = 10.0, **more: object) -> Optimize:
    loss = ReconstructionLoss(mse_weight=0.0, dispersion_weight=0.0 if space == "s" else dispersion)
    return Optimize(**{"space": space, "steps": steps, "latent_noise": 0.0, "loss": loss, **more})


@pytest.mark.seconds
@pytest.mark.parametrize("space", ["w", "w+", "s", "z"])
def test_a_batch_is_single_runs_to_the_bit(context: Context, space: str) -> None:
    stage = Segment(masks=GRID, dilation=3, optimize=quick(space))
    target = targets(context, 5)
    full = stage(target, None, context)
    for order in ([3, 0], [2]):
        same(full, stage(some(target, order), None, replace(context, lanes=8)), order)


@pytest.mark.seconds
@pytest.mark.usefixtures("each_number_of_threads")
def test_a_joint_batch_is_single_runs_to_the_bit(context: Context) -> None:
    target = targets(context, 5)
    start = Segment(masks=MaskSource(grid=(2, 2)), dilation=3, optimize=quick(steps=2))(target, None, context)
    stage = JointSegments(steps=3)
    full = stage(target, start.code, context)
    for order in ([3, 0], [2]):
        same(full, stage(some(target, order), start.code[order], replace(context, lanes=8)), order)


def test_a_segment_s_loss_has_no_gradient_in_another(context: Context) -> None:
    g = context.generator
    target = targets(context, 1)
    masks = torch.cat(list(GRID.of(target).values()))
    lanes = Target(target.images.expand(2, -1, -1, -1), ["a#0", "a#1"], dilate(masks, 7))
    loss = ReconstructionLoss(dispersion_weight=10.0).prepare(lanes, context)
    w = random_w(g, 2, seed=5).requires_grad_(True)
    code = Code(w)
    values, _ = loss(g.synthesize(code), code, loss.reference([0, 1]))
    for i in range(2):
        (gradient,) = torch.autograd.grad(values[i], w, retain_graph=True)
        assert gradient[i].abs().max() > 0
        assert gradient[1 - i].count_nonzero() == 0


def test_dispersion_is_zero_at_the_mean_and_one_over_w_dim_on_average(context: Context) -> None:
    g = tiny_generator()
    g.measure_w()
    cfg = ReconstructionLoss(distance_weight=0.0, mse_weight=0.0, dispersion_weight=10.0)
    count = 10_000
    z = torch.randn(count, g.z_dim, generator=torch.Generator().manual_seed(123))
    images = torch.zeros(1, 3, 4, 4)

    def dispersion(code: Code, cfg: ReconstructionLoss = cfg) -> torch.Tensor:
        loss = cfg.prepare(Target(images), replace(context, generator=g))
        return loss(images.expand(len(code), -1, -1, -1), code, {"images": images})[0]

    w = g.map(z)
    assert dispersion(Code(g.w_mean.expand(1, g.num_ws, -1))).item() == 0
    assert dispersion(Code(w)).mean().item() == pytest.approx(10 / g.w_dim, rel=1e-4)
    divided = cfg.model_copy(update={"dispersion_wplus_div": True})
    assert dispersion(Code(w), divided).mean().item() == pytest.approx(10 / g.w_dim / g.num_ws, rel=1e-4)
    # Of several segments: the sum over those that are there.
    masks = torch.ones(count, 3, 1, 1, 1)
    masks[:, 1] = 0
    offsets = torch.stack([torch.zeros_like(w), w, w.roll(1, 0) - w], dim=1)
    both = dispersion(Code(w, segments=Segments(masks, offsets)))
    torch.testing.assert_close(both, dispersion(Code(w)) + dispersion(Code(w)).roll(1, 0))


@pytest.mark.seconds
def test_the_result_is_the_segments_over_the_photo(context: Context) -> None:
    g = context.generator
    target = targets(context, 3)
    masks = torch.zeros(3, 1, 32, 32)
    masks[:, :, 4:24, 4:24] = 1
    target = replace(target, masks=masks)
    stage = Segment(masks=GRID, dilation=3, optimize=quick(steps=30))
    result = stage(target, None, context)
    segments = result.code.segments
    assert segments.names == ("0-0", "0-1")
    images = g.synthesize(result.code)
    outside = (masks == 0).expand_as(images)
    assert torch.equal(images[outside], target.images[outside])
    before = g.synthesize(Code(g.w_mean.expand(3, g.num_ws, -1)))
    for k in range(2):
        inside = (segments.masks[:, k] == 1).expand_as(images)
        assert (images - target.images)[inside].square().mean() < 0.5 * (before - target.images)[inside].square().mean()
    # The code's own latent is the mean of its segments by area: here they are 12 and 8 columns wide.
    mean = 12 * segments.w[:, 0] + 8 * segments.w[:, 1]
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-4, rtol=0)
    assert [len(curve) for curve in result.loss] == result.steps == [30] * 3
    full = replace(target, masks=None)
    assert stage.model_copy(update={"optimize": quick(steps=1)})(full, None, context).code.segments.background is None


@pytest.mark.seconds
def test_a_curve_is_the_sum_of_the_segments_curves(context: Context) -> None:
    target = targets(context, 1)
    left, right = GRID.of(target).values()
    result = Segment(masks=GRID, dilation=7, optimize=quick())(target, None, context)
    curves = [
        quick()(Target(target.images, [f"image-0#0-{k}"], dilate(mask, 7)), None, context).loss[0]
        for k, mask in enumerate((left, right))
    ]
    assert result.loss[0] == [a + b for a, b in zip(*curves, strict=True)]


@pytest.mark.seconds
def test_images_may_lack_segments(context: Context) -> None:
    """The second image has one segment, the third none at all and is inverted as one."""
    masks = {name: mask.clone() for name, mask in GRID.of(targets(context, 3)).items()}
    masks["0-0"][1] = 0
    masks["0-0"][2] = masks["0-1"][2] = 0
    target = replace(targets(context, 3), segments=masks)
    stage = Segment(masks=MaskSource(), dilation=1, optimize=quick())
    result = stage(target, None, context)
    segments = result.code.segments
    assert segments.present().tolist() == [[True, True], [False, True], [True, False]]
    assert (segments.masks[2, 0] == 1).all()
    assert segments.w[1, 0].count_nonzero() == 0
    assert torch.equal(context.generator.synthesize(result.code)[1, :, :, :16], target.images[1, :, :, :16])
    for i in range(3):
        same(result, stage(some(target, [i]), None, context), [i])
    learned = JointSegments(steps=5)(target, result.code, context)
    assert torch.equal(learned.code.segments.present(), segments.present())
    assert learned.code.segments.w[1, 0].abs().max() < 1e-6


@pytest.mark.seconds
def test_a_broken_image_ends_alone(context: Context) -> None:
    target = targets(context, 4)
    images = target.images.clone()
    images[1, 0, 3, 3] = float("nan")
    stage = Segment(masks=GRID, dilation=3, optimize=quick())
    result = stage(Target(images, target.ids), None, context)
    assert [reason == "not_finite" for reason in result.stop_reason] == [False, True, False, False]
    same(result, stage(some(target, [0, 2, 3]), None, context), [0, 2, 3])


@pytest.mark.seconds
def test_it_goes_on_from_a_code(context: Context) -> None:
    target = targets(context, 2)
    first = Segment(masks=GRID, dilation=3, optimize=quick(steps=10))(target, None, context)
    again = Segment(masks=GRID, dilation=3, optimize=quick(start="code", lr_rampup=0.0, lr=1e-6, steps=1))
    result = again(target, first.code, context)
    for a, b in zip(result.loss, first.loss, strict=True):
        assert a[0] == pytest.approx(b[-1], rel=0.05)
    other = Segment(masks=MaskSource(grid=(2, 1)), optimize=quick(start="code", steps=1))(target, first.code, context)
    assert other.code.segments.names == ("0-0", "1-0")
    with pytest.raises(ValueError, match="needs a stage before it"):
        again(target, None, context)


@pytest.mark.seconds
def test_later_stages_take_all_segments(context: Context) -> None:
    """Pivotal tuning of the composite, and a latent moved for all of them; batches stay single runs to the bit."""
    target = targets(context, 3)
    start = Segment(masks=GRID, dilation=3, optimize=quick())(target, None, context).code
    for stage in (
        Tune(steps=8, lr=0.005, form="low-rank", rank=2),
        quick(start="code", steps=8, lr=0.02, dispersion=0.0),
    ):
        result = stage(target, start, context)
        assert all(curve[-1] < curve[0] for curve in result.loss)
        assert torch.equal(result.code.segments.w, start.segments.w)
        same(result, stage(some(target, [1]), start[[1]], context), [1])


@pytest.mark.seconds
def test_joint_descent_lowers_the_loss_and_learns_masks(context: Context) -> None:
    """Two images, cut where the grid does not cut: the masks move there, and go on covering what they covered."""
    g = context.generator
    codes = [Code(random_w(g, 1, seed=s)) for s in (3, 4)]
    masks = torch.zeros(1, 2, 1, 32, 32)
    masks[:, 0, :, :, :24] = masks[:, 1, :, :, 24:] = 1
    truth = Code(codes[0].w, segments=Segments(masks, torch.stack([c.w - codes[0].w for c in codes], dim=1)))
    target = Target(g.synthesize(truth), ["cut"], torch.ones(1, 1, 32, 32))
    half = torch.zeros_like(masks)
    half[:, 0, :, :, :16] = half[:, 1, :, :, 16:] = 1
    start = replace(truth, segments=replace(truth.segments, masks=half))
    loss = ReconstructionLoss(distance_weight=0.0)
    result = JointSegments(space=None, steps=30, mask_lr=0.6, loss=loss)(target, start, context)
    learned = result.code.segments
    assert result.loss[0][-1] < 0.2 * result.loss[0][0]
    assert learned.masks[0, 0, 0, :, 17:22].mean() > 0.8  # was 0
    torch.testing.assert_close(learned.masks.sum(1), torch.ones(1, 1, 32, 32))
    torch.testing.assert_close(learned.w, truth.segments.w, atol=1e-5, rtol=0)
    moved = JointSegments(mask_lr=None, steps=10, loss=loss)(target, start, context).code.segments
    assert torch.equal(moved.masks, half)
    assert (moved.w - truth.segments.w).abs().max() > 0.01


def test_total_variation_is_the_length_of_the_edges(context: Context) -> None:
    code = Code(random_w(context.generator, 1))
    masks = torch.stack(list(GRID.of(targets(context, 1)).values()), dim=1)
    code = replace(code, segments=Segments(masks, torch.zeros(1, 2, *code.w.shape[1:])))
    soft = MaskLogits(4, 2.0).start(code, ["a"], context)["logits"]
    logits = {"logits": torch.where(soft > 0, 50.0, -50.0)}
    # One edge through the whole image, in both masks.
    assert MaskLogits(4, 2.0).penalty(logits).item() == pytest.approx(2 * 2 * 1.0)


def test_grids_and_regions_sum_to_one(context: Context) -> None:
    target = targets(context, 2)
    merge = {
        "face": ("skin", "nose", "mouth", "eye", "eyebrow"),
        "rest": ("background", "hair", "ear", "clothes", "neck"),
    }
    for source in (
        MaskSource(grid=(3, 2)),
        MaskSource(grid=(3, 2), feather=2),
        MaskSource(segmenter="aligned-face", feather=1),
        MaskSource(segmenter="aligned-face", merge=merge),
    ):
        total = torch.stack(list(source.of(target).values())).sum(0)
        torch.testing.assert_close(total, torch.ones(2, 1, 32, 32))
    assert list(MaskSource(segmenter="aligned-face", merge=merge).of(target)) == ["face", "rest"]
    cell = MaskSource(grid=(2, 2)).of(target)["0-1"]
    assert cell[0, 0, :16, 16:].all()
    assert cell.sum() == 2 * 16 * 16


def test_dilation_is_a_box() -> None:
    mask = torch.zeros(1, 1, 16, 16)
    mask[0, 0, 8, 8] = 0.5
    grown = dilate(mask, 7)
    assert (grown[0, 0, 5:12, 5:12] == 0.5).all()
    assert grown.count_nonzero() == 49


def test_refusals(context: Context) -> None:
    target = targets(context, 1)
    with pytest.raises(ConfigError, match="there are no masks"):
        MaskSource().of(target)
    with pytest.raises(ConfigError, match=r"no regions \['lips'\] to merge"):
        MaskSource(segmenter="aligned-face", merge={"a": ("lips",)}).of(target)
    with pytest.raises(ValueError, match="not both"):
        MaskSource(segmenter="aligned-face", grid=(1, 1))
    with pytest.raises(ValueError, match="even size has no middle"):
        Segment(dilation=4)
    with pytest.raises(ValueError, match="a latent each and nothing else"):
        Segment(optimize=quick(noise_maps=NoiseSettings()))
    with pytest.raises(ValueError, match="dispersion is that of w"):
        Segment(optimize=Optimize(space="s", loss=ReconstructionLoss(dispersion_weight=1.0)))
    with pytest.raises(ConfigError, match="needs a segment stage before it"):
        JointSegments()(target, Code(random_w(context.generator, 1)), context)
    with pytest.raises(ValueError, match="nothing to optimise"):
        JointSegments(space=None, mask_lr=None)
    with pytest.raises(ValueError, match=r"Target.segments\['a'\] must be \[1, 1, 32, 32\]"):
        replace(target, segments={"a": torch.zeros(1, 1, 8, 8)})


def direction(context: Context) -> Direction:
    g = context.generator
    vector = torch.ones(g.w_dim).numpy() / g.w_dim**0.5
    return Direction(
        name="smile",
        vector=vector,
        space="w",
        generator_name="tiny",
        generator_fingerprint=g.fingerprint,
        method="test",
    )


def test_editing_a_segment_leaves_the_others(context: Context) -> None:
    g = context.generator
    result = Segment(masks=GRID, dilation=3, optimize=quick())(targets(context, 2), None, context)
    smile = {"smile": direction(context)}
    edited = Edit({"smile": 5.0}, segment="0-1").apply(result.code, smile)
    assert torch.equal(edited.w, result.code.w)
    change = g.synthesize(edited) - g.synthesize(result.code)
    assert change[:, :, :, :16].count_nonzero() == 0
    assert change[:, :, :, 16:].abs().max() > 0.01
    torch.testing.assert_close(edited.segment(1).w, smile["smile"].apply(result.code.segment(1).w, 5.0))
    # By number, and edits of different segments commute.
    assert torch.equal(Edit({"smile": 5.0}, segment=1).apply(result.code, smile).segments.w, edited.segments.w)
    one, two = Edit({"smile": 5.0}, segment=1), Edit({"smile": -2.0}, segment=0)
    order = [two.apply(one.apply(result.code, smile), smile), one.apply(two.apply(result.code, smile), smile)]
    assert torch.equal(g.synthesize(order[0]), g.synthesize(order[1]))
    # Without a segment it is an edit of all of them.
    everywhere = Edit({"smile": 5.0}).apply(result.code, smile)
    for k in range(2):
        torch.testing.assert_close(everywhere.segment(k).w, smile["smile"].apply(result.code.segment(k).w, 5.0))
    with pytest.raises(ConfigError, match="no segment 'hair'"):
        Edit({"smile": 5.0}, segment="hair").apply(result.code, smile)
