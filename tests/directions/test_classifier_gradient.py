"""Editing along a classifier's gradient: of latents, and of images."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.directions.fitting.classifier_gradient import (
    ClassifierGradientEditor,
    GradientConfig,
    fit_classifier_gradient,
    image_scores,
    mean_gradients,
)
from ganinv.errors import ConfigError, DataError
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import NetworkLabeller, TableLabeller
from ganinv.labels.inputs import InputSpec
from ganinv.labels.outputs import Output
from ganinv.networks.latent_classifier import LatentClassifier
from tests.tiny import random_w, tiny_generator

ROWS, DIM = 5, 8


@pytest.fixture(scope="module")
def planes() -> Tensor:
    return torch.randn(3, ROWS, DIM, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def w() -> Tensor:
    return torch.randn(6, ROWS, DIM, generator=torch.Generator().manual_seed(1))


def linear(planes: Tensor):  # type: ignore[no-untyped-def]
    """Log-odds that are linear in w, a little bent."""

    def scores(w: Tensor) -> dict[str, Tensor]:
        names = ("smile", "age", "hat")
        values = torch.einsum("bld,kld->bk", w + 0.05 * w**3, planes)
        return {name: values[:, i] for i, name in enumerate(names)}

    return scores


def loss(scores: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, target), reduction="none")


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_an_edit_lowers_the_loss_and_its_rows_have_the_strength(planes: Tensor, w: Tensor, target: float) -> None:
    """docs/methods/classifier-gradient.md, check 2."""
    scores = linear(planes)
    editor = ClassifierGradientEditor(scores, "smile", target=target)
    edited = editor.edit(w, 0.5)
    assert (loss(scores(edited)["smile"], target) < loss(scores(w)["smile"], target)).all()
    torch.testing.assert_close((edited - w).norm(dim=2), torch.full((6, ROWS), 0.5))
    assert not edited.requires_grad


def test_more_steps_follow_a_bent_score_further(planes: Tensor, w: Tensor) -> None:
    scores = linear(planes)
    one = ClassifierGradientEditor(scores, "smile").edit(w, 3.0)
    many = ClassifierGradientEditor(scores, "smile", steps=6).edit(w, 3.0)
    assert scores(many)["smile"].mean() > scores(one)["smile"].mean()


def test_a_sure_classifier_still_leads_on(planes: Tensor, w: Tensor) -> None:
    sure = lambda w: {name: values + 60 for name, values in linear(planes)(w).items()}  # noqa: E731
    edited = ClassifierGradientEditor(sure, "smile").edit(w, 0.5)
    torch.testing.assert_close(edited, ClassifierGradientEditor(linear(planes), "smile").edit(w, 0.5))


def test_a_sample_does_not_depend_on_its_company(planes: Tensor, w: Tensor) -> None:
    editor = ClassifierGradientEditor(linear(planes), "age", protect=["hat"], steps=2)
    alone = torch.cat([editor.edit(one[None]) for one in w])
    torch.testing.assert_close(alone, editor.edit(w), atol=1e-5, rtol=0)


def test_protected_attributes_hold_still_to_first_order(planes: Tensor, w: Tensor) -> None:
    scores = linear(planes)
    free = ClassifierGradientEditor(scores, "smile").direction(w)
    held = ClassifierGradientEditor(scores, "smile", protect=["age", "hat"]).direction(w)
    for name in ("age", "hat"):
        leaf = w.clone().requires_grad_()
        gradient = torch.autograd.grad(scores(leaf)[name].sum(), leaf)[0]
        assert (held * gradient).sum(2).abs().max() < 1e-4
        assert (free * gradient).sum(2).abs().max() > 0.1
    torch.testing.assert_close(held.norm(dim=2), torch.ones(6, ROWS))
    parallel = lambda w: {**scores(w), "copy": 2 * scores(w)["age"]}  # noqa: E731
    twice = ClassifierGradientEditor(parallel, "smile", protect=["age", "copy"]).direction(w)
    once = ClassifierGradientEditor(scores, "smile", protect=["age"]).direction(w)
    torch.testing.assert_close(twice, once, atol=1e-3, rtol=0)


def test_some_rows_only(planes: Tensor, w: Tensor) -> None:
    edited = ClassifierGradientEditor(linear(planes), "smile", rows=(1, 3)).edit(w)
    assert (edited - w).abs().sum((0, 2)).nonzero()[:, 0].tolist() == [1, 2]


def test_what_cannot_be_asked_is_said(planes: Tensor, w: Tensor) -> None:
    scores = linear(planes)
    with pytest.raises(ConfigError, match="the classifier has no beard; there are: smile, age, hat"):
        ClassifierGradientEditor(scores, "beard").edit(w)
    with pytest.raises(ConfigError, match="cannot be protected as well"):
        ClassifierGradientEditor(scores, "smile", protect=["smile"])
    with pytest.raises(ConfigError, match="steps must be at least 1"):
        ClassifierGradientEditor(scores, "smile", steps=0)


class Brightness(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3))
        return torch.stack([5 * mean.mean(1), mean[:, 0].sigmoid()], 1)


@pytest.fixture(scope="module")
def g() -> Generator:
    return tiny_generator(16)


def labeller() -> NetworkLabeller:
    outputs = {"bright": Output(column=0), "red": Output(column=1, kind="probability")}
    spec = InputSpec(size=16)
    return NetworkLabeller(
        Brightness(), name="b", version=1, weights_sha256="", spec=spec, outputs=outputs, numbers="values"
    )


def test_mean_gradients_say_what_a_step_changes(planes: Tensor, w: Tensor) -> None:
    scores = linear(planes)
    found = mean_gradients(scores, w, ["age", "hat"], batch_size=4)
    assert found["age"].shape == (ROWS, DIM)
    step = 1e-3 * torch.randn(ROWS, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    exact = linear(planes.double())
    change = (exact(w.double() + step)["age"] - exact(w.double())["age"]).mean()
    assert float((torch.from_numpy(found["age"]) * step).sum()) == pytest.approx(float(change), rel=1e-2)
    with pytest.raises(ConfigError, match="the classifier has no beard; there are: smile, age, hat"):
        mean_gradients(scores, w, ["beard"])
    with pytest.raises(DataError, match="at least one sample"):
        mean_gradients(scores, w[:0], ["age"])


@pytest.mark.parametrize("attribute", ["bright", "red"])
def test_any_labeller_of_images_will_do(g: Generator, attribute: str) -> None:
    scores, w = image_scores(g, labeller()), random_w(g, 4)
    edited = ClassifierGradientEditor(scores, attribute, steps=2).edit(w, 0.4)
    before, after = (labeller()(g.render(Code(w=x)))[attribute] for x in (w, edited))
    assert (after > before).all()
    table = TableLabeller({"bright": [0.0]}, ["a"], name="t")  # type: ignore[dict-item]
    with pytest.raises(DataError, match="t@1 has no gradients"):
        image_scores(g, table)


def test_the_mean_direction_is_one_direction(g: Generator) -> None:
    w = random_w(g, 24)
    config = GradientConfig(samples=20, rows=(0, 4))
    d = fit_classifier_gradient(image_scores(g, labeller()), w, "bright", g, config, labeller="b@1")
    assert (d.space, d.layers, d.method, d.labeller) == ("w+", (0, 4), "classifier-gradient", "b@1")
    assert d.vector.shape == (4, g.w_dim)
    torch.testing.assert_close(torch.from_numpy(d.vector.copy()).norm(dim=1), torch.ones(4))
    assert 0.1 < d.report["agreement"] <= 1
    assert d.report["samples"] == 20
    before = labeller()(g.render(Code(w=w)))["bright"]
    assert (labeller()(g.render(Code(w=d.apply(w, 0.2))))["bright"] > before).float().mean() > 0.9
    assert (labeller()(g.render(Code(w=d.apply(w, -0.2))))["bright"] < before).float().mean() > 0.9
    again = fit_classifier_gradient(image_scores(g, labeller()), w, "bright", g, config, batch_size=3)
    torch.testing.assert_close(
        torch.from_numpy(again.vector.copy()), torch.from_numpy(d.vector.copy()), atol=1e-5, rtol=0
    )
    blind = lambda w: {"bright": w[:, 0].sum(1)}  # noqa: E731  # it sees row 0 alone
    with pytest.raises(DataError, match=r"'bright'.*zero in some rows"):
        fit_classifier_gradient(blind, w, "bright", g)


def test_the_latent_classifier_has_the_original_size() -> None:
    """docs/methods/classifier-gradient.md, check 1: 20,583,464 parameters, 164 tensors."""
    net = LatentClassifier(18, 512, [f"a{i}" for i in range(40)])
    assert sum(p.numel() for p in net.parameters()) == 20_583_464
    assert len(net.state_dict()) == 164
    logits, embeddings = net(torch.zeros(2, 18, 512))
    assert logits.shape == (2, 40)
    assert embeddings.shape == (2, 40, 32)


def learn(net: LatentClassifier, w: Tensor, labels: Tensor, steps: int) -> list[float]:
    """Losses of training by binary cross entropy; labels that are NaN are not known."""
    rng, optimizer, losses = torch.Generator().manual_seed(0), torch.optim.AdamW(net.parameters(), lr=1e-3), []
    for _ in range(steps):
        pick = torch.randint(len(w), (64,), generator=rng)
        known = torch.isfinite(labels[pick])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(net(w[pick])[0][known], labels[pick][known])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.seconds
def test_a_latent_classifier_learns_and_edits(planes: Tensor) -> None:
    truth = linear(planes)
    w = torch.randn(3000, ROWS, DIM, generator=torch.Generator().manual_seed(2))
    labels = torch.stack([(truth(w)[name] > 0).float() for name in ("smile", "age")], 1)
    labels[:100, 1] = float("nan")
    torch.manual_seed(0)
    net = LatentClassifier(ROWS, DIM, ["smile", "age"], hidden=(64, 32), embedding=8)
    losses = learn(net, w, labels, steps=300)
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])
    fresh = torch.randn(200, ROWS, DIM, generator=torch.Generator().manual_seed(3))
    assert ((net.scores(fresh)["smile"] > 0) == (truth(fresh)["smile"] > 0)).float().mean() > 0.85
    edited = ClassifierGradientEditor(net.scores, "smile").edit(fresh, 0.5)
    assert (truth(edited)["smile"] > truth(fresh)["smile"]).float().mean() > 0.95
