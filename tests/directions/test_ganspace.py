from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from ganinv.directions.direction import Direction
from ganinv.directions.exchange.declared import DeclaredGenerator
from ganinv.directions.exchange.importing import import_directions
from ganinv.directions.fitting.ganspace import GanSpaceConfig, PrincipalComponents, fit_ganspace
from ganinv.errors import ConfigError, DataError
from ganinv.metrics import Moments

SHARED = Path(os.environ.get("GANINV_SHARED", Path(__file__).parents[2].parent / "shared"))
GOLDEN = SHARED / "golden/editing/ganspace.npz"


@pytest.fixture(scope="module")
def latents() -> np.ndarray:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(24, 24)))[0]
    return (rng.normal(size=(3000, 24)) * np.linspace(3, 0.1, 24) @ basis + 1.0).astype(np.float32)


def test_recovers_a_known_spectrum() -> None:
    """docs/methods/ganspace.md, check 1, at 128 dimensions; the full size takes 20 s."""
    check_spectrum(128, 40_000, 40)


@pytest.mark.slow
def test_recovers_a_known_spectrum_at_full_size() -> None:
    check_spectrum(512, 100_000, 80)


def check_spectrum(dim: int, n: int, count: int) -> None:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    sigma = np.concatenate([np.linspace(6, 3, 20), np.linspace(1.5, 0.4, dim - 20)])
    mean = rng.normal(size=dim)
    # In shards: only one of them is in memory at a time.
    shards = (
        rng.standard_normal((5000, dim), dtype=np.float32) @ (sigma[:, None] * basis) + mean for _ in range(n // 5000)
    )
    found = fit_ganspace(shards, GanSpaceConfig(components=count))
    assert found.samples == n
    np.testing.assert_allclose(found.sigma[:20], sigma[:20], rtol=0.02)
    overlap = np.linalg.svd(found.components[:20] @ basis[:20].T, compute_uv=False)
    assert np.degrees(np.arccos(overlap.min().clip(max=1))) < 5
    standard_error = np.sqrt((basis**2 * sigma[:, None] ** 2).sum(0) / n)
    assert (np.abs(found.mean - mean) < 5 * standard_error).all()
    np.testing.assert_allclose(found.components @ found.components.T, np.eye(count), atol=1e-5)


def test_shards_in_any_order_equal_one_pass(latents: np.ndarray) -> None:
    """docs/methods/ganspace.md, check 2."""
    whole = fit_ganspace(latents, GanSpaceConfig(components=10))
    shards = [Moments.of(part) for part in np.array_split(latents, 7)]
    for order in (shards, shards[::-1], shards[3:] + shards[:3]):
        merged = fit_ganspace(Moments.merge(order), GanSpaceConfig(components=10))
        assert (np.sum(merged.components * whole.components, axis=1) > 1 - 1e-6).all()
        np.testing.assert_allclose(merged.sigma, whole.sigma, rtol=1e-6)


def test_equals_scikit_learn_and_follows_the_sign_rule(latents: np.ndarray) -> None:
    from sklearn.decomposition import PCA

    found = fit_ganspace(latents, GanSpaceConfig(components=8))
    reference = PCA(8, svd_solver="full").fit(latents.astype(np.float64))
    np.testing.assert_allclose(np.abs(np.sum(found.components * reference.components_, axis=1)), 1, atol=1e-6)
    np.testing.assert_allclose(found.sigma**2, reference.explained_variance_, rtol=1e-5)
    np.testing.assert_allclose(found.variance_ratio, reference.explained_variance_ratio_, rtol=1e-5)
    assert (found.components.max(1) == np.abs(found.components).max(1)).all()


def test_correlations_say_what_a_component_does(latents: np.ndarray) -> None:
    found = fit_ganspace(latents, GanSpaceConfig(components=4))
    score = latents @ found.components[2] + 5
    score[:10] = np.nan
    found = fit_ganspace(latents, GanSpaceConfig(components=4), {"smile": -score})
    np.testing.assert_allclose(found.correlations["smile"], [0, 0, -1, 0], atol=0.01)
    d = found.direction(2, "faces", "f" * 64, labeller="portraits-64@1")
    assert d.report["correlations"]["smile"] < -0.99
    assert d.report["variance_ratio"] == pytest.approx(float(found.variance_ratio[2]))


def components(**changes: object) -> PrincipalComponents:
    """The FFHQ numbers of a published basis: component 54 has standard deviation 0.4925."""
    basis = np.linalg.qr(np.random.default_rng(3).normal(size=(64, 64)))[0].astype(np.float32)
    sigma = np.linspace(2.856, 0.4, 64, dtype=np.float32)
    sigma[54] = 0.4925
    mean = np.random.default_rng(4).normal(size=64).astype(np.float32)
    return PrincipalComponents(mean, basis, sigma, sigma**2 / (sigma**2).sum(), 1000, {})


def test_published_edit_moves_only_its_row_by_the_published_norm() -> None:
    """docs/methods/ganspace.md, check 4 at w = mean, where the default mode and the e4e form agree."""
    pca = components()
    w = torch.tensor(pca.mean).expand(1, 18, -1)
    change = pca.direction(54, "ffhq", "0", layers=(7, 8)).apply(w, 20.0) - w
    assert change.norm(dim=-1)[0, 7].item() == pytest.approx(9.85, abs=2e-3)
    assert change.abs().sum(-1).nonzero()[:, 1].tolist() == [7]


def test_the_published_edit_of_the_published_basis_in_the_e4e_form(shared: Path) -> None:
    """docs/methods/ganspace.md, check 4: (54, 7, 8, 20) of ffhq_pca.pt at the mean moves row 7 alone, by 20 x 0.4925 less the
    mean's own coordinate, which is 0."""
    source = shared / "data/community-directions/e4e/ffhq_pca.pt"
    (d,) = import_directions(
        str(source), DeclaredGenerator("ffhq", 1024), select=["54"], layers=(7, 8), mode="absolute-first-row"
    )
    assert d.unit == pytest.approx(0.4925, abs=5e-5)
    assert d.mean is not None
    w = torch.tensor(d.mean).expand(1, 18, -1)
    change = d.apply(w, 20.0) - w
    assert change.abs().sum(-1).nonzero()[:, 1].tolist() == [7]
    assert change.norm(dim=-1)[0, 7].item() == pytest.approx(9.849, abs=1e-3)


def test_absolute_edits_reach_the_coordinate_and_are_idempotent() -> None:
    """docs/methods/ganspace.md, check 5."""
    pca = components()
    d = pca.direction(10, "ffhq", "0", layers=(3, 9))
    w = torch.randn(4, 18, 64, generator=torch.Generator().manual_seed(0)) + torch.tensor(pca.mean)
    once = d.apply(w, -2.0)
    coordinate = (once - torch.tensor(pca.mean)) @ torch.tensor(pca.components[10]) / pca.sigma[10]
    torch.testing.assert_close(coordinate[:, 3:9], torch.full((4, 6), -2.0), atol=1e-4, rtol=0)
    assert torch.equal(once[:, :3], w[:, :3])
    assert torch.equal(once[:, 9:], w[:, 9:])
    torch.testing.assert_close(d.apply(once, -2.0), once, atol=1e-5, rtol=0)


def test_relative_mode_moves_by_sigmas() -> None:
    pca = components()
    w = torch.zeros(1, 2, 64)
    change = pca.direction(0, "ffhq", "0", mode="relative").apply(w, 1.0)
    torch.testing.assert_close(change.norm(dim=-1), torch.full((1, 2), float(pca.sigma[0])))


def test_names_and_errors(latents: np.ndarray) -> None:
    pca = fit_ganspace(latents, GanSpaceConfig(components=4))
    assert [pca.direction(i, "g", "0").name for i in range(len(pca))] == ["pca-00", "pca-01", "pca-02", "pca-03"]
    with pytest.raises(ConfigError, match=r"0 \.\. 3, got 4"):
        pca.direction(4, "g", "0")
    with pytest.raises(DataError, match="use None for all rows"):
        pca.direction(0, "g", "0", layers=(0, -1))
    with pytest.raises(DataError, match="25 components need"):
        fit_ganspace(latents, GanSpaceConfig(components=25))
    with pytest.raises(DataError, match="all 100 samples are equal"):
        fit_ganspace(np.ones((100, 8), dtype=np.float32), GanSpaceConfig(components=2))
    with pytest.raises(DataError, match="not finite"):
        fit_ganspace(np.full((100, 8), np.nan), GanSpaceConfig(components=2))
    with pytest.raises(DataError, match=r"'smile'.*constant"):
        fit_ganspace(latents, GanSpaceConfig(components=2), {"smile": np.ones(len(latents))})
    with pytest.raises(DataError, match="one array"):
        fit_ganspace([latents], GanSpaceConfig(components=2), {"smile": latents[:, 0]})


@pytest.mark.skipif(not GOLDEN.is_file(), reason="no golden data (set GANINV_SHARED)")
def test_golden_edits() -> None:
    """The recorded edits read the coordinate from row 0 and move all rows by the same step: row 0 alone, in every row,
    is where that form and ours agree."""
    golden = np.load(GOLDEN)
    edited = golden["edited"].reshape(len(golden["latents"]), len(golden["directions"]), *golden["latents"].shape[1:])
    for i, latent in enumerate(golden["latents"]):
        for j, (index, start, end, strength) in enumerate(golden["directions"]):
            d = Direction(
                name="golden",
                vector=golden["comp"][int(index), 0],
                space="w",
                generator_name="toy",
                generator_fingerprint="0",
                method="ganspace",
                layers=(int(start), int(end)),
                unit=float(golden["std"][int(index)]),
                mode="absolute",
                mean=golden["mean"][0],
            )
            first_row = torch.tensor(latent[:1]).expand(1, len(latent), -1)
            step = d.step(first_row, float(strength))[0].numpy()
            np.testing.assert_allclose(edited[i, j] - latent, step, atol=1e-5)
