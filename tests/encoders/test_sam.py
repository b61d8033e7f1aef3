"""SAM on small generators and against recordings of the original: which space holds what, and what an edit may move."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ganinv.codes.code import Code, Feature, Masked
from ganinv.errors import ConfigError, DataError, GeneratorMismatch, WeightsRefused
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.distance import EmbeddedDistance, between, error_map
from ganinv.losses.priors import GaussianPrior, row_deltas
from ganinv.methods.files import open_inverter
from ganinv.methods.learning import begin_at_mean
from ganinv.methods.psp import Psp, PspConfig
from ganinv.methods.published.describe import describe
from ganinv.methods.sam import Sam, SamConfig, SamLearner, SamRecipe, SingleSpace
from ganinv.methods.selection import binary_masks, choose_spaces, grid_segments
from ganinv.networks.invertibility import ErrorMaps
from ganinv.stages.base import Context
from ganinv.stages.optimize import Optimize
from ganinv.target import Target
from ganinv.training.batches import Batch
from ganinv.training.step import Step
from tests.closed_form import closed_form_parts, golden_images, golden_input
from tests.encoders.golden import stats
from tests.tiny import random_w, tiny_generator

EXACT: dict[str, Any] = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(scope="module")
def g() -> Generator:
    return tiny_generator(64)


def encoder_of(g: Generator) -> Psp:
    torch.manual_seed(3)
    shape = PspConfig.for_generator(g, {"base_channels": 8, "pyramid_channels": 8})
    encoder = Psp(PspConfig.model_validate(shape), g).eval().requires_grad_(False)
    begin_at_mean(encoder, g)
    return encoder


def sam_for(g: Generator, **given: object) -> Sam:
    """Untrained but for encoders that give something."""
    shape = SamConfig.for_generator(g, {"trunk": "small", "encoders": True, "base_channels": 8, **given})
    sam = Sam(SamConfig.model_validate(shape), g, {"encoder": encoder_of(g)})
    begin_at_mean(sam, g)
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for one in sam.encoders:
            weight = one.get_submodule("last").get_parameter("weight")
            weight.copy_(0.1 * torch.randn(weight.shape, generator=rng))
    return sam.eval().requires_grad_(False)


def test_a_segment_gets_the_first_space_that_is_good_enough() -> None:
    errors = torch.tensor([0.5, 0.3, 0.1]).reshape(1, 3, 1, 1).expand(1, 3, 2, 4).clone()
    errors[:, :, :, 2:] = torch.tensor([0.2, 0.3, 0.1]).reshape(3, 1, 1)
    segments = torch.tensor([[7, 7, 9, 9], [7, 7, 9, 9]])[None]
    for threshold, left, right in ((1.0, 0, 0), (0.4, 1, 0), (0.25, 2, 0), (0.15, 2, 2), (0.0, 2, 2)):
        chosen = choose_spaces(errors, segments, threshold)
        assert (chosen[..., :2] == left).all(), threshold
        assert (chosen[..., 2:] == right).all(), threshold
    with pytest.raises(DataError, match="do not fit error maps"):
        choose_spaces(errors, segments[:, :1], 0.1)


def test_masks_are_binary_and_share_the_image_out() -> None:
    choice = torch.zeros(1, 16, 16, dtype=torch.long)
    choice[:, :8, 8:], choice[:, 8:] = 1, 2
    coarse, fine = binary_masks(choice, [4, 32])
    assert coarse.shape == (1, 1, 4, 4)
    assert torch.equal(coarse[0, 0], torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]))
    assert torch.equal(fine[0, 0, :, 0], torch.tensor([0.0] * 16 + [1.0] * 16))
    assert grid_segments(8, 2).unique().tolist() == [0, 1, 2, 3]


def test_an_edit_of_nothing_changes_nothing_and_edits_act_outside_the_masks(g: Generator) -> None:
    sam = sam_for(g, threshold=0.0)  # everything in the last space
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    code = sam(images)
    assert code.features is not None
    last = sam.cfg.sites[-1]
    last_add, first_add = code.features[last].add, code.features[sam.cfg.sites[0]].add
    assert isinstance(last_add, Masked)
    assert isinstance(first_add, Masked)
    assert last_add.mask is not None
    assert first_add.mask is not None
    assert last_add.mask.all()
    assert not first_add.mask.any()
    half = torch.ones_like(last_add.mask)
    half[..., half.shape[-1] // 2 :] = 0
    code = replace(code, features={last: Feature(add=Masked(last_add.value, half))})
    same = sam.after_edit(None, code, code)
    torch.testing.assert_close(g.synthesize(same), g.synthesize(code), atol=1e-6, rtol=1e-6)
    moved = sam.after_edit(None, code, code.with_w(code.w + 0.5))
    _, before = g.synthesize(code, capture=[last])
    _, after = g.synthesize(moved, capture=[last])
    side = half.shape[-1] // 2
    assert torch.equal(after[last][..., :side], before[last][..., :side])  # held still up to its site
    _, plain = g.synthesize(Code(w=code.w + 0.5), capture=[last])
    assert torch.equal(after[last][..., side:], plain[last][..., side:])  # the edit, as in W+


def test_untrained_offsets_are_nothing_and_images_alone_choose(g: Generator) -> None:
    shape = SamConfig.for_generator(g, {"trunk": "small", "encoders": False})
    assert shape["sites"] == ["block[2]", "block[4]", "block[6]"]
    sam = Sam(SamConfig.model_validate(shape), g, {"encoder": encoder_of(g)}).eval()
    code = sam(torch.rand(2, 3, 64, 64))
    torch.testing.assert_close(g.synthesize(code), g.synthesize(Code(w=code.w)))
    segmented = sam_for(g, segmenter="aligned-face")
    assert len(segmented.segments(torch.rand(2, 3, 64, 64)).unique()) > 4


def test_a_generator_of_other_features_is_refused(g: Generator) -> None:
    shape = SamConfig.for_generator(g, {"trunk": "small"})
    with pytest.raises(ConfigError, match=r"generator 'tiny' of 32 pixels has no features at 'block\[8\]'"):
        Sam(SamConfig.model_validate({**shape, "sites": ["block[2]", "block[4]", "block[8]"]}), tiny_generator())
    with pytest.raises(GeneratorMismatch, match=r"this sam changes features of 7x8x8 at block\[2\]"):
        Sam(SamConfig.model_validate({**shape, "sites": ["block[2]"], "shapes": [(7, 8)]}), g)
    without = SamRecipe.model_validate({"losses": {"distance": 0}, "inverter": {"trunk": "small", "encoders": False}})
    with pytest.raises(ConfigError, match=r"leave inverter\.encoders out, or ask for optimised ones"):
        without.build(g, {"encoder": encoder_of(g)}, None)


@pytest.mark.seconds
def test_training_has_a_pass_for_each_site_and_one_for_the_errors(g: Generator) -> None:
    recipe = SamRecipe.model_validate(
        {"losses": {"distance": 0}, "inverter": {"trunk": "small", "base_channels": 8, "share": 0.25}}
    )
    learner = recipe.build(g, {"encoder": encoder_of(g)}, None)
    assert isinstance(learner, SamLearner)
    images = g.render(Code(w=random_w(g, 4)))
    passes = list(learner.passes(Batch(images, images), Step(0, 10)))
    assert [sorted(terms) for terms in passes[:3]] == [
        sorted([f"l2 {s}", f"prior {s}"]) for s in learner.network.cfg.sites
    ]
    assert list(passes[3]) == ["errors"]
    with torch.no_grad():
        predicted = learner.network.train().errors(images)[:, :1]
    cells = torch.nn.functional.adaptive_avg_pool2d(predicted, 8)
    assert float((cells <= learner.network.threshold).float().mean()) == pytest.approx(0.25, abs=0.02)


@pytest.mark.seconds
def test_errors_may_be_those_of_optimisation(g: Generator) -> None:
    """As published: W+ alone, then W+ with the offset of one site alone. No encoder is trained beside it."""
    how = {"steps": 8, "lr": 0.1, "prior": 0.0}
    recipe = SamRecipe.model_validate(
        {"losses": {"distance": 0}, "inverter": {"trunk": "small", "base_channels": 8}, "optimised": how}
    )
    learner = recipe.build(g, {"encoder": encoder_of(g)}, None)
    assert isinstance(learner, SamLearner)
    assert not learner.network.encoders
    images = g.render(Code(w=random_w(g, 2)))
    batch, start = Batch(images, images), Code(w=g.w_mean.expand(2, g.num_ws, -1))
    assert [list(terms) for terms in learner.passes(batch, Step(0, 10))] == [["errors"]]
    found = [learner.inverted(start, site, batch, SingleSpace.model_validate(how)) for site in (None, "block[6]")]
    left = [float((rendered - images).square().mean()) for rendered in (g.synthesize(start), *found)]
    assert left[0] > left[1] > left[2]
    assert not any(p.grad is not None for p in g.parameters())
    alone = learner.inverted(start[0], "block[6]", Batch(images[:1], images[:1]), SingleSpace.model_validate(how))
    torch.testing.assert_close(alone, found[1][:1], atol=2e-3, rtol=1e-2)


def test_an_error_map_is_where_images_differ(g: Generator) -> None:
    distance = EmbeddedDistance.of(g)
    one = g.render(Code(w=random_w(g, 1)))
    other = one.clone()
    other[..., :8, :8] = -other[..., :8, :8]
    features = [distance.features(x) for x in (one, other)]
    found = error_map(*features, 64)
    assert found.shape == (1, 1, 64, 64)
    assert found[..., :8, :8].mean() > 3 * found[..., 32:, 32:].mean()
    assert float(found.mean()) == pytest.approx(float(between(*features)), rel=0.1)


@pytest.mark.parametrize("site", [{"resolution": "1/4"}, "*"])
def test_optimisation_keeps_offsets_within_their_masks(g: Generator, site: Any) -> None:
    context = Context(g, open_inverter=lambda name: pytest.fail(name))
    target = Target(g.render(Code(w=random_w(g, 2, 7))))
    mask = torch.zeros(2, 1, 16, 16)
    mask[..., :8] = 1
    code = Code(w=random_w(g, 2), features={"block[4]": Feature(add=Masked(torch.zeros(2, 16, 16, 16), mask))})
    stage = Optimize.model_validate(
        {
            "space": "w+",
            "start": "code",
            "steps": 3,
            "latent_noise": 0.0,
            "features": [{"site": site, "unit": "deviation", "prior": 0.1}],
            "loss": {"prior": {"samples": 50}},
        }
    )
    found = stage(target, code, context).code
    assert found.features is not None
    add = found.features["block[4]"].add
    assert isinstance(add, Masked)
    assert add.mask is not None
    assert torch.equal(add.mask, mask)
    assert add.value[..., :8].abs().max() > 0
    assert not add.value[..., 8:].any()  # no gradient from outside
    assert not torch.equal(found.w, code.w)
    if site == "*":
        assert list(found.features) == ["block[4]"]
        with pytest.raises(ConfigError, match="these add nowhere"):
            stage(target, Code(w=code.w), context)


# --- recordings of the original ---


@pytest.fixture
def golden(shared: Path) -> Path:
    return shared / "golden"


def test_choice_and_masks_of_the_original(golden: Path) -> None:
    arrays = np.load(golden / "pipelines" / "sam_selection.npz")
    order = [str(name) for name in arrays["latent_order"]][::-1]  # ours begins with W+
    errors = torch.stack([torch.from_numpy(arrays[f"inv.{name}"]) for name in order])[None]
    segments = torch.from_numpy(arrays["segments"])[None]
    for i, tau in enumerate(arrays["taus"]):
        choice = choose_spaces(errors, segments, float(tau))[0]
        theirs = len(order) - 1 - torch.from_numpy(arrays["choice"][i].astype(np.int64))
        assert torch.equal(choice, theirs)
        for number, name in enumerate(order[1:], start=1):
            recorded = torch.from_numpy(arrays[f"mask.{name}"][i])
            soft = lanczos((choice == number).float(), len(recorded))
            torch.testing.assert_close(soft, recorded, atol=1e-4, rtol=0)


def lanczos(mask: Tensor, side: int) -> Tensor:
    """A binary mask [H, W] resized as the published code does: Lanczos, clipped to the range of the mask."""
    resized = np.asarray(
        Image.fromarray(mask.numpy().astype(np.float32)).resize((side, side), Image.Resampling.LANCZOS)
    )
    return torch.from_numpy(resized.copy()).clamp(0.0, float(mask.max()))


def test_priors_of_the_original(golden: Path) -> None:
    case = golden / "pipelines" / "sam_priors.json"
    arrays = np.load(case.with_suffix(".npz"))
    w = golden_input(case, "w", [5000, 512], 0.0, 1.0)
    w[:, :256] /= 2
    prior = GaussianPrior(w)
    torch.testing.assert_close(prior.mean.float(), torch.from_numpy(arrays["mean_v"]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        prior.inverse[::32, ::32], torch.from_numpy(arrays["inv_cov_v_sample"]), atol=1e-5, rtol=1e-4
    )
    wp = golden_input(case, "wp", [2, 18, 512], 0.0, 1.2)
    assert float(prior(wp)[0]) == pytest.approx(float(arrays["mvg_first"]), rel=1e-4)
    assert float(prior(wp).mean()) == pytest.approx(float(arrays["mvg_batch"]), rel=1e-4)
    assert float(row_deltas(wp)[0]) == pytest.approx(float(arrays["delta_first"]), rel=1e-4)
    assert float(row_deltas(wp).mean()) == pytest.approx(float(arrays["delta_batch"]), rel=1e-4)
    assert float(prior(w.mean(0).expand(1, 3, -1))) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.seconds
def test_features_and_edits_of_the_original(golden: Path) -> None:
    """Soft masks and all: our code holds what they add, and their edit is a replacement in a mask."""
    case = golden / "pipelines" / "sam_features_r256.json"
    arrays = np.load(case.with_suffix(".npz"))
    g = open_generator(str(case.with_suffix(".pkl")))
    w = torch.from_numpy(arrays["ws"])
    sites = {
        "F4": ("block[4]", 24, 16),
        "F6": ("block[6]", 24, 32),
        "F8": ("block[8]", 16, 64),
        "F10": ("block[10]", 8, 128),
    }
    offsets = {
        f: golden_input(case, f, [1, channels, side, side], 0.0, 1.5) for f, (_, channels, side) in sites.items()
    }
    masks = {f: torch.from_numpy(arrays[f"mask.{f}"]) for f in sites}

    def check(code: Code, name: str) -> None:
        torch.testing.assert_close(g.synthesize(code)[:, :, ::2, ::2], torch.from_numpy(arrays[name]), **EXACT)

    check(Code(w=w), "img_plain")
    code = Code(w=w, features={site: Feature(add=Masked(offsets[f], masks[f])) for f, (site, _, _) in sites.items()})
    check(code, "img")
    check(Code(w=w, features={site: Feature(add=offsets[f]) for f, (site, _, _) in sites.items()}), "img_masks_one")
    check(Code(w=w), "img_only_W+")
    for f, (site, _, _) in sites.items():
        check(Code(w=w, features={site: Feature(add=offsets[f])}), f"img_only_{f}")
    _, captured = g.synthesize(code, capture=[site for site, _, _ in sites.values()])
    for f, (site, channels, side) in sites.items():
        x = captured[site]
        step = side // 16
        torch.testing.assert_close(
            x[:, :4, ::step, ::step].contiguous(), torch.from_numpy(arrays[f"feat.{f}"]), **EXACT
        )
        torch.testing.assert_close(stats(x), torch.from_numpy(arrays[f"feat.{f}.stats"]), **EXACT)
        assert x.shape[1] == channels
    cfg = SamConfig(sites=tuple(site for site, _, _ in sites.values()), trunk="small")
    sam = Sam(cfg, g)
    direction = golden_input(case, "direction", [1, 14, 64])
    for strength in (0, 1, 2):
        check(sam.after_edit(None, code, code.with_w(w + strength * direction)), f"edit.{strength}")


@pytest.mark.slow
def test_the_invertibility_network_of_the_original(golden: Path, tmp_path: Path) -> None:
    case = golden / "encoders" / "sam_invertibility.json"
    arrays = np.load(case.with_suffix(".npz"))
    file = str(tmp_path / "invertibility.pt")
    torch.save(closed_form_parts(case), file)
    g = open_generator(str(golden / "pipelines" / "sam_features_r256.pkl"))
    sam = open_inverter(file, generator=g, needed={"encoder": encoder_of(g)})
    assert isinstance(sam, Sam)
    assert sam.cfg.sites == ("block[4]", "block[6]", "block[8]", "block[10]")
    with pytest.raises(ConfigError, match=r"no features at 'block\[10\]'"):
        open_inverter(file, generator=tiny_generator(64))
    assert sum(p.numel() for p in sam.errors.base.parameters()) == 59_340_968
    for i in range(2):
        images = golden_images(arrays[f"image{i}_u8"])
        with torch.no_grad():
            base, found = sam.errors.base(images), sam.errors(images)
        torch.testing.assert_close(
            base[:, :, ::4, ::4], torch.from_numpy(arrays[f"image{i}.base"]), atol=1e-3, rtol=1e-3
        )
        for number, name in enumerate(("W+", "F4", "F6", "F8", "F10")):
            recorded = torch.from_numpy(arrays[f"image{i}.{name}"])
            torch.testing.assert_close(found[:, number : number + 1], recorded, atol=1e-3, rtol=1e-3)


@pytest.mark.seconds
def test_the_invertibility_network_has_the_published_size() -> None:
    with torch.device("meta"):
        network = ErrorMaps(5)
        maps = network(torch.empty(2, 3, 192, 256))
    assert maps.shape == (2, 5, 192, 256)
    assert sum(p.numel() for p in network.base.parameters()) == 59_340_968
    assert sum(p.numel() for p in network.heads[0].parameters()) == 305


def test_a_file_without_heads_is_refused() -> None:
    trunk = {"backbone.conv1.weight": torch.zeros(64, 3, 7, 7)}
    with pytest.raises(WeightsRefused, match=r"with the heads \['F4'\]; expected W\+"):
        describe({"sd_base": trunk, "F4": {"m.0.weight": torch.zeros(8, 4, 3, 3)}})
    assert describe({"sd_base": trunk, "F4": trunk, "W+": trunk}).n_styles == 0
