"""IntereStyle's training: what is seen, where it is compared, and which passes have gradients."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganinv.codes.code import Code
from ganinv.config import validate
from ganinv.degradations.sampling import blurred, resized
from ganinv.errors import ConfigError
from ganinv.methods.interestyle import (
    IntereStyle,
    IntereStyleLearner,
    IntereStyleRecipe,
    low_pass_radii,
    low_passed,
)
from ganinv.methods.restyle import ReStyle, ReStyleRecipe
from ganinv.training.batches import Batch, MixedBatches
from ganinv.training.masks import INTEREST
from ganinv.training.step import Step
from ganinv.training.trainer import Trainer
from tests.closed_form import closed_form_tensor
from tests.tiny import tiny_generator

SMALL: Mapping[str, Any] = {
    "steps": 4,
    "batch_size": 4,
    "passes": 3,
    "inverter": {"encoder": {"base_channels": 8, "pyramid_channels": 8}},
    "losses": {"distance": 0.5},
    "optimizer": {"kind": "adam", "lr": 0.001},
}


def recipe(**other: Any) -> IntereStyleRecipe:
    return validate(IntereStyleRecipe, {**SMALL, **other}, "test")


def learner(**other: Any) -> IntereStyleLearner:
    torch.manual_seed(0)
    g = tiny_generator()
    made = recipe(**other).build(g, {}, None)
    assert isinstance(made, IntereStyleLearner)
    with torch.no_grad():
        for head in made.network.encoder.heads:
            nn.init.normal_(head.linear.weight, std=0.1)
    return made


def batch(mask: Tensor | None = None) -> Batch:
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    if mask is None:
        mask = torch.zeros(4, 1, 32, 32)
        mask[:, :, 8:24, 8:24] = 1
    return Batch(images, images, masks={INTEREST: mask})


def test_the_low_pass_schedule() -> None:
    assert low_pass_radii(5, 16.0) == [16, 9, 4, 1, 0]
    assert low_pass_radii(5, 0.0625 * 64) == [4, 2.25, 1, 0.25, 0]
    assert low_pass_radii(1, 4.0) == [0]


def test_views_are_blurred_outside_the_region_alone() -> None:
    seen, whole = learner(), learner(filtered="whole")
    one = batch()
    mask = one.masks[INTEREST].bool().expand_as(one.images)
    views, blurs = seen.views(one.images, one.masks[INTEREST]), whole.views(one.images, one.masks[INTEREST])
    assert torch.equal(views[0][mask], one.images[mask])
    roughness = [float(view[~mask].std()) for view in views]
    assert roughness == sorted(roughness)
    assert torch.equal(views[-1], one.images)
    assert not torch.equal(blurs[0][mask], one.images[mask])


@pytest.mark.seconds
def test_with_full_masks_and_no_more_it_is_restyle_to_the_bit() -> None:
    own = learner(low_pass=0.0, disentangle=0.0)
    theirs = validate(ReStyleRecipe, {**SMALL, "kind": "restyle"}, "test").build(own.generator, {}, None)
    assert isinstance(theirs.network, ReStyle)
    theirs.network.load_state_dict(own.network.state_dict())
    full = batch(torch.ones(4, 1, 32, 32))
    for one in (own, theirs):
        for terms in one.passes(full, Step(0, 4)):
            sum(weight * value for weight, value in terms.values() if weight).backward()  # type: ignore[union-attr]
    pairs = zip(own.network.parameters(), theirs.network.parameters(), strict=True)
    assert all(torch.equal(a.grad, b.grad) for a, b in pairs if a.grad is not None and b.grad is not None)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in own.network.parameters())


def test_the_losses_see_nothing_outside_the_region() -> None:
    one, mask = batch(), batch().masks[INTEREST]
    rendered = torch.rand(4, 3, 32, 32) * 2 - 1
    other = torch.where(mask > 0, rendered, -rendered)
    losses = learner().losses
    code = Code(w=torch.zeros(4, 8, 16))
    for name, (_, value) in losses(rendered, one, code, mask).items():
        assert torch.equal(value, losses(other, one, code, mask)[name][1]), name


@pytest.mark.seconds
def test_the_last_pass_alone_learns_on_request() -> None:
    one = learner(backprop="last", disentangle=0.0)
    assert len(list(one.passes(batch(), Step(0, 4)))) == 1
    both = learner(backprop="last")
    names = [set(terms) for terms in both.passes(batch(), Step(0, 4))]
    assert names == [{"l2", "distance", "unmasked"}, {"disentangled_l2", "disentangled_distance"}]
    assert len(list(learner().passes(batch(), Step(0, 4)))) == 4


def test_it_trains_and_counts_images_without_a_region() -> None:
    g = tiny_generator()
    made = recipe()
    trainer = Trainer(made, lambda: made.build(g, {}, None), MixedBatches(made.data, g, 4))
    assert isinstance(trainer.learner.network, IntereStyle)
    losses = trainer.step()
    assert losses["unmasked"] == 0
    assert losses["disentangled_l2"] > 0


def test_without_masks_it_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"learns within a region of interest: set data\.masks"):
        recipe(data={"real_share": 0.5})


class Toy(IntereStyle):
    """The network of the recording: pixels of 4x4, one matrix into the code and one out of it."""

    def build(self) -> None:
        self.A = nn.Parameter(torch.zeros(96, 8))
        self.num_ws, self.w_dim = 1, 8
        average = torch.zeros(1, 8)
        self.encoder = SimpleNamespace(input_size=(16, 16), latent_avg=average, offsets=self._offsets)  # type: ignore[assignment]

    def _offsets(self, seen: Tensor) -> Tensor:
        return (F.adaptive_avg_pool2d(seen, 4).flatten(1) @ self.A)[:, None]


@pytest.mark.parametrize(("name", "disentangle"), [("trainer_new", 0.0), ("trainer_old", 0.05)])
def test_one_step_is_that_of_the_published_trainers(shared: Path, name: str, disentangle: float) -> None:
    golden = dict(np.load(shared / "golden/degradations/interestyle.npz", allow_pickle=False))

    def value(key: str, shape: list[int], b: float) -> Tensor:
        return closed_form_tensor("int-a", key, shape, 0.0, b)

    views = list(value("x_list", [5, 2, 3, 16, 16], 1.0))
    mask = (value("mask", [2, 1, 16, 16], 1.0) > -0.2).float()
    out = value("B", [8, 48], 0.5)
    toy = Toy(SimpleNamespace(kind="toy", steps=5))  # type: ignore[arg-type]
    toy.A.data = value("A", [96, 8], 0.1)
    toy.encoder.latent_avg = value("latent_avg", [1, 8], 0.3)
    toy.mean_rendering = lambda: value("avg_image", [3, 16, 16], 0.5)[None]  # type: ignore[method-assign]

    def synthesize(code: Code) -> Tensor:
        return (code.w[:, 0] @ out).reshape(-1, 3, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)

    toy._bound = (SimpleNamespace(synthesize=synthesize),)  # type: ignore[assignment]
    made = recipe(passes=5, backprop="last", disentangle=disentangle, losses={"distance": 0})
    step = IntereStyleLearner(made, toy)
    step.views = lambda images, mask: views  # type: ignore[method-assign]
    loss = None
    for terms in step.passes(Batch(views[-1], views[-1], masks={INTEREST: mask}), Step(0, 1)):
        loss = terms["l2"][1] if loss is None else loss
        sum(weight * value for weight, value in terms.values() if weight).backward()  # type: ignore[union-attr]
    assert loss is not None
    np.testing.assert_allclose(loss.item(), golden[f"{name}.loss"], rtol=1e-5)
    wanted = torch.from_numpy(golden[f"{name}.grad_A"])
    assert toy.A.grad is not None
    torch.testing.assert_close(toy.A.grad, wanted, atol=1e-6 + 1e-3 * float(wanted.abs().max()), rtol=0)


def test_views_and_masks_are_those_of_the_published_data_set(shared: Path) -> None:
    golden = dict(np.load(shared / "golden/degradations/interestyle.npz", allow_pickle=False))
    for case in sorted({name.partition(".")[0] for name in golden if name.startswith("case")}):
        image, mask = golden[f"{case}.image_u8"], golden[f"{case}.mask_u8"]
        if golden[f"{case}.flipped"]:
            image, mask = image[:, ::-1], mask[:, ::-1]
        views = [resized(blurred(image, radius), 256, 256) for radius in low_pass_radii(5, 16.0)]
        wanted = golden[f"{case}.x_list_u8"].astype(int)
        assert np.abs(np.stack(views).astype(int) - wanted).max() <= 1
        small = resized(mask[:, :, None], 256, 256)[:, :, 0]
        np.testing.assert_allclose(small / 255, golden[f"{case}.mask_out"], atol=1.01 / 255)


def test_blurs_of_tensors_are_those_of_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1
    soft = ((low_passed(tensor, 3.0)[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(soft, blurred(image, 3.0))
