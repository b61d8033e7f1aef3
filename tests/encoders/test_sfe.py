"""StyleFeatureEditor on a small generator: where its features act, what an edit does to them, what phase 2 leaves alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ganinv.codes.code import Code, Feature
from ganinv.codes.parts import Masked
from ganinv.config import validate
from ganinv.directions.direction import Direction
from ganinv.errors import ConfigError, GeneratorMismatch
from ganinv.generators.carrying import carry_features
from ganinv.generators.sites import site_statistics
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.feature_site import continued
from ganinv.methods.psp import Psp, PspConfig
from ganinv.methods.registry import load_recipe
from ganinv.methods.sfe import Sfe, SfeConfig, SfeRecipe
from ganinv.methods.sfe_editor import SfeEditor, SfeEditorConfig, SfeEditorRecipe
from ganinv.store import open_store
from ganinv.training.batches import MixedBatches
from ganinv.training.edit_steps import EditSteps, EditStepsConfig, principal_components
from ganinv.training.trainer import Trainer
from tests.tiny import random_w, tiny_generator

SMALL: dict[str, Any] = {"base_channels": 8, "pyramid_channels": 8, "width": 16, "units": 1, "hidden": 8}


@pytest.fixture(scope="module")
def generator() -> Generator:
    return tiny_generator(64)


def inverter(g: Generator, **other: Any) -> Sfe:
    """Untrained; with ``moved`` its features differ from the generator's."""
    torch.manual_seed(0)
    moved = other.pop("moved", False)
    made = Sfe(validate(SfeConfig, SfeConfig.for_generator(g, {**SMALL, **other}), "test"), g)
    made.latent_avg.copy_(g.w_mean)
    made.measure_units()
    if moved:
        torch.nn.init.normal_(made.fuser.last.weight, std=0.2)  # type: ignore[union-attr, arg-type]
    return made.eval().requires_grad_(False)


def editor(g: Generator, of: Sfe, *, trained: bool = False, **other: Any) -> SfeEditor:
    torch.manual_seed(1)
    small = {"width": 16, "units": 1, "site": of.cfg.site, **other}
    encoder = Psp(
        validate(PspConfig, PspConfig.for_generator(g, {"base_channels": 8, "pyramid_channels": 8}), "test"), g
    )
    for head in encoder.heads:
        torch.nn.init.normal_(head.linear.weight, std=0.3)  # type: ignore[union-attr, arg-type]
    encoder.eval().requires_grad_(False)
    cfg = validate(SfeEditorConfig, SfeEditorConfig.for_generator(g, small), "test")
    made = SfeEditor(cfg, g, {"inverter": of, "encoder": encoder})
    made.measure_units()
    if trained:
        torch.nn.init.normal_(made.network.last.weight, std=0.2)  # type: ignore[union-attr, arg-type]
    return made.eval().requires_grad_(False)


def images(count: int = 2) -> Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1


@pytest.mark.parametrize(
    ("site", "found", "shape"),
    [
        (None, "block[4]", (16, 16)),
        ({"resolution": "1/8", "kind": "block"}, "block[2]", (16, 8)),
        ({"resolution": "1/2", "kind": "block"}, "block[6]", (8, 32)),
        ("block[4]", "block[4]", (16, 16)),
    ],
)
def test_sites_of_several_resolutions(generator: Generator, site: Any, found: str, shape: tuple[int, int]) -> None:
    made = inverter(generator, moved=True, **({} if site is None else {"site": site}))
    assert (made.cfg.site, made.cfg.channels, made.cfg.side) == (found, *shape)
    code = made(images())
    assert code.features is not None
    value = code.features[found].replace
    assert isinstance(value, Tensor)
    assert value.shape == (2, shape[0], shape[1], shape[1])
    assert (generator.synthesize(code) - generator.synthesize(Code(w=code.w))).abs().max() > 1e-3


def test_untrained_features_are_the_generators_own(generator: Generator) -> None:
    made = inverter(generator)
    code = made(images())
    assert torch.equal(code.w, generator.w_mean.expand(2, generator.num_ws, -1))
    plain = Code(w=code.w)
    torch.testing.assert_close(generator.synthesize(code), generator.synthesize(plain), atol=1e-6, rtol=0)
    _, captured = generator.synthesize(plain, capture=["block[4]"])
    own = replace(plain, features={"block[4]": Feature(replace=captured["block[4]"])})
    assert torch.equal(generator.synthesize(own), generator.synthesize(plain))


def test_a_pass_that_goes_on_from_the_site_renders_the_code(generator: Generator) -> None:
    made = inverter(generator, moved=True)
    parts = made.parts(images())
    shown = continued(generator, parts.code, parts.own, parts.features)
    torch.testing.assert_close(shown, generator.synthesize(made(images())), atol=1e-6, rtol=0)
    assert torch.equal(generator.synthesize(parts.code, start=parts.own), generator.synthesize(parts.code))


def test_it_goes_on_from_a_latent_that_is_given(generator: Generator) -> None:
    made, w = inverter(generator, moved=True), random_w(generator, 2)
    code = made(images(), Code(w=w))
    assert torch.equal(code.w, w)
    assert code.features is not None
    assert not torch.equal(made(images()).features["block[4]"].replace, code.features["block[4]"].replace)  # type: ignore[index, arg-type]


def test_an_untrained_editor_is_the_rule_without_parameters(generator: Generator) -> None:
    of = inverter(generator, moved=True)
    made, photos = editor(generator, of), images()
    code = made(photos)
    step = torch.randn(generator.num_ws, generator.w_dim, generator=torch.Generator().manual_seed(4))
    edited = code.with_w(code.w + step)
    after = made.after_edit(photos, code, edited)
    helper = Code(w=made.need("encoder")(photos).w)
    delta = made.delta(helper, helper.with_w(helper.w + step))
    torch.testing.assert_close(made.held(after).value, made.held(code).value - delta, atol=5e-6, rtol=1e-6)
    assert torch.equal(after.w, edited.w)
    # From the inverter's own latent the same rule is what a plain inverter does.
    carried = carry_features(generator, code, edited)
    own = made.delta(replace(code, features=None), replace(edited, features=None))
    torch.testing.assert_close(made.held(carried).value, made.held(code).value - own, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("always", [False, True])
def test_an_edit_of_nothing_changes_nothing(generator: Generator, always: bool) -> None:
    of = inverter(generator, moved=True)
    network = {"network": "published", "channels": of.cfg.channels} if always else {}
    made, photos = editor(generator, of, trained=not always, always=always, **network), images()
    code = made(photos)
    after = made.after_edit(photos, code, code.with_w(code.w.clone()))
    torch.testing.assert_close(made.held(after).value, made.held(code).value, atol=1e-5, rtol=1e-5)
    assert torch.equal(made(photos).features["block[4]"].replace, of(photos).features["block[4]"].replace) != always  # type: ignore[index, arg-type]


def test_several_edits_of_one_image_are_what_each_is_alone(generator: Generator) -> None:
    """As a search for strengths asks for them, with the image's features once."""
    of = editor(generator, inverter(generator), trained=True)
    rng = torch.Generator().manual_seed(4)
    shape = (of.cfg.channels, 4, 4)
    features, deltas = torch.randn(1, *shape, generator=rng), torch.randn(3, *shape, generator=rng)
    together = of.edited(features, deltas)
    torch.testing.assert_close(together, torch.cat([of.edited(features, delta[None]) for delta in deltas]))


def test_what_a_refinement_moved_stays_in_an_edit(generator: Generator) -> None:
    of = inverter(generator, moved=True)
    made, photos = editor(generator, of, always=True, network="published"), images()
    code = made(photos)
    offset = 0.1 * torch.randn(made.held(code).value.shape, generator=torch.Generator().manual_seed(5))
    refined = made.with_features(code, Masked(made.held(code).value + offset))
    step = torch.ones(generator.w_dim)
    plain, moved = (made.after_edit(photos, c, c.with_w(c.w + step)) for c in (code, refined))
    torch.testing.assert_close(made.held(moved).value - made.held(plain).value, offset, atol=1e-5, rtol=1e-4)


def test_an_edit_in_style_space_is_looked_at_too(generator: Generator) -> None:
    of = inverter(generator, moved=True)
    made, photos = editor(generator, of), images()
    code = made(photos)
    early = {"convs.2": torch.ones(2, generator.synthesis.convs[2].weight.shape[1])}  # type: ignore[union-attr]
    after = made.after_edit(photos, code, replace(code, styles=early))
    assert (made.held(after).value - made.held(code).value).abs().max() > 1e-4


def test_what_does_not_fit_is_refused(generator: Generator) -> None:
    with pytest.raises(ConfigError, match=r"has no features at 'block\[40\]'"):
        inverter(generator, site="block[40]")
    with pytest.raises(ConfigError, match=r"features at act\[3\] would change the image of their own resolution too"):
        inverter(generator, site="act[3]")
    other = tiny_generator(64)
    other.cfg = other.cfg.model_copy(update={"channels": (16, 16, 12, 8, 8)})
    with pytest.raises(
        GeneratorMismatch, match=r"features of 16x16x16 at block\[4\]; those of generator 'tiny' are 12x16x16"
    ):
        inverter(generator).bind(other)
    of = inverter(generator)
    with pytest.raises(ValueError, match="give images"):
        editor(generator, of).after_edit(None, of(images()), of(images()))


def trainer(recipe: Any, g: Generator, needed: dict[str, Any]) -> Trainer:
    return Trainer(recipe, lambda: recipe.build(g, needed, None), MixedBatches(recipe.data, g, recipe.batch_size))


def test_the_first_step_of_phase_one_renders_the_latent_alone() -> None:
    g = tiny_generator()
    recipe = SfeRecipe(steps=4, batch_size=2, inverter=SMALL, fade_in=2, losses={"distance": 0})
    trained = trainer(recipe, g, {})
    torch.nn.init.normal_(trained.learner.network.fuser.last.weight, std=0.2)  # type: ignore[union-attr, operator]
    losses = [trained.step() for _ in range(2)]
    assert losses[0]["l2"] == losses[0]["plain_l2"]
    assert losses[1]["l2"] != losses[1]["plain_l2"]
    assert losses[0]["feature"] > 0


@pytest.mark.seconds
@pytest.mark.parametrize("always", [False, True])
def test_phase_two_leaves_what_is_frozen_alone_and_lowers_the_error_of_edits(always: bool) -> None:
    g = tiny_generator()
    of = inverter(g, moved=True)
    needed = editor(g, of).needed
    before = {role: one.fingerprint for role, one in needed.items()} | {"generator": g.fingerprint}
    shape = {"width": 16, "units": 1, "always": always, "network": "published" if always else "small"}
    recipe = SfeEditorRecipe(
        steps=6, batch_size=4, inverter=shape, losses={"distance": 0}, back_and_forth=0.5, edits={"towards": 0.5}
    )
    trained = trainer(recipe, g, needed)
    losses = [trained.step() for _ in range(6)]
    assert {role: one.fingerprint for role, one in needed.items()} | {"generator": g.fingerprint} == before
    assert "back_l2" in losses[0]
    assert ("inversion_l2" in losses[0]) == always
    network = trained.learner.network
    assert isinstance(network, SfeEditor)
    assert set(dict(network.named_buffers())) >= {"feature_mean", "feature_std"}


@pytest.mark.seconds
def test_a_learned_editor_depends_on_the_sign_of_the_difference() -> None:
    """Guards what Delta is: the original minus the edited."""
    g = tiny_generator()
    of = inverter(g, moved=True)
    trained = trainer(SfeEditorRecipe(steps=2, inverter={"width": 16, "units": 1}), g, editor(g, of).needed)
    shown = g.synthesize(Code(w=random_w(g, 8)))
    wanted, right = trained.learner.examine(shown, shown)
    network = trained.learner.network
    assert isinstance(network, SfeEditor)
    original = network.edited
    network.edited = lambda features, delta: original(features, -delta)  # type: ignore[method-assign]
    _, wrong = trained.learner.examine(shown, shown)
    assert (wrong - wanted).square().mean() > 1.2 * (right - wanted).square().mean()


def test_edits_are_drawn_towards_other_samples_or_along_components() -> None:
    g = tiny_generator()
    w = random_w(g, 64)
    rng = torch.Generator().manual_seed(3)
    towards = EditSteps(EditStepsConfig(), g).draw(w, rng)
    other = w + towards / 0.45  # with a about 4.5 the target is near a mapped latent, whose rows are equal
    assert (other - other[:, :1]).abs().max() < 1e-3
    components = principal_components(g, 4)
    along = EditSteps(EditStepsConfig(towards=0.0, components=4, deviations=2.0), g).draw(w, rng)[:, 0]
    share = along @ components.T / components.square().sum(1)
    assert share.abs().max() <= 2.0 + 1e-4
    assert ((share.abs() > 1e-3).sum(1) == 1).all()
    some = EditSteps(EditStepsConfig(some_rows=1.0), g).draw(w, rng)
    moved = some.abs().sum(2) > 0
    assert moved.any(1).all()
    assert not moved.all(1).all()
    with pytest.raises(ConfigError, match="a range from the smaller to the larger"):
        validate(EditStepsConfig, {"strength": [5, 4]}, "test")


def test_edits_go_along_directions_where_a_store_has_some(tmp_path: Path) -> None:
    g = tiny_generator()
    store = open_store(str(tmp_path))
    vector = np.eye(g.w_dim, dtype=np.float32)[3]
    store.directions.put(Direction("up", vector, "w", g.name, g.fingerprint, "test", unit=2.0))
    given = {"labelled": 1.0, "directions": ["up"], "store": str(tmp_path), "units": 1.5}
    w = random_w(g, 32)
    steps = EditSteps(validate(EditStepsConfig, given, "test"), g).draw(w, torch.Generator().manual_seed(1))
    assert not steps[..., [i for i in range(g.w_dim) if i != 3]].any()
    assert torch.equal(steps[..., 3], steps[:, :1, 3].expand(-1, g.num_ws))
    assert 1.5 < float(steps.abs().max()) <= 3.0
    with pytest.raises(ConfigError, match="need all three: labelled, directions, and the store"):
        validate(EditStepsConfig, {"labelled": 0.5}, "test")
    with pytest.raises(GeneratorMismatch, match="'up' was fitted on generator"):
        EditSteps(validate(EditStepsConfig, given, "test"), tiny_generator(seed=4))


def test_the_shipped_recipes_fit_the_embedded_site(generator: Generator) -> None:
    for name in ("portraits-64-sfe", "portraits-64-sfe-editor"):
        recipe = load_recipe(name)
        cls = SfeConfig if recipe.kind == "sfe" else SfeEditorConfig
        assert validate(cls, cls.for_generator(generator, recipe.inverter), name).site == "block[4]"
    mean, std = site_statistics("block[4]", generator)
    made = inverter(generator)
    torch.testing.assert_close(made.feature_mean, mean)
    torch.testing.assert_close(made.feature_std, std)
