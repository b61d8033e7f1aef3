"""SeFa: closed-form factorisation."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from ganinv.directions.fitting.sefa import SefaConfig, fit_sefa
from ganinv.directions.measuring.effects import Start
from ganinv.errors import ConfigError
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator, GeneratorConfig
from tests.closed_form import closed_form_tensor
from tests.tiny import random_w, tiny_generator


@pytest.fixture(scope="module")
def g() -> Generator:
    return tiny_generator(32)


@pytest.mark.parametrize("rows", [None, (0, 1), (2, 3, 4, 5)])
def test_factors_are_orthonormal_and_sorted(g: Generator, rows: tuple[int, ...] | None) -> None:
    """docs/methods/sefa.md, check 1."""
    factors = fit_sefa(g, SefaConfig(rows=rows))
    np.testing.assert_allclose(factors.vectors @ factors.vectors.T, np.eye(g.w_dim), atol=1e-5)
    assert (np.diff(factors.eigenvalues) <= 1e-6).all()
    widths = {name: layer.affine.weight.shape[0] for name, layer, _ in g.synthesis.layers()}
    columns = sum(widths[name] for name in factors.layers)
    assert factors.eigenvalues.sum() == pytest.approx(columns, rel=1e-3)


@pytest.mark.parametrize("compat", ["genforce", "rosinality"])
def test_a_planted_factor_is_the_first(compat: str) -> None:
    """docs/methods/sefa.md, check 2: M = 10 u v^T + E, 512 x 2048."""
    torch.manual_seed(0)
    cfg = GeneratorConfig(resolution=16, channels=(512, 512, 512), z_dim=8, w_dim=512, mapping_layers=1)
    g = Generator(cfg)
    u = torch.randn(512)
    for _, layer, _ in g.synthesis.layers():
        weight = layer.affine.weight
        weight.data = 10 * torch.randn(weight.shape[0], 1) * u + torch.randn(weight.shape)
    factors = fit_sefa(g, SefaConfig(compat=compat))  # type: ignore[arg-type]
    assert abs(factors.vectors[0] @ (u / u.norm()).numpy()) > 0.99
    assert factors.eigenvalues[0] > 10 * factors.eigenvalues[1]


def test_which_layers_each_reading_takes(g: Generator) -> None:
    last = g.num_ws - 1
    convs = tuple(f"convs.{k}" for k in range(last))
    assert fit_sefa(g).layers == (*convs, f"torgbs.{last // 2}")
    assert fit_sefa(g, SefaConfig(rows=(last,))).layers == (f"torgbs.{last // 2}",)
    assert fit_sefa(g, SefaConfig(rows=(2, 3))).layers == ("convs.2", "convs.3")
    rosinality = fit_sefa(g, SefaConfig(compat="rosinality"))
    assert set(rosinality.layers) == {*convs, "torgbs.0"}
    assert rosinality.rows == tuple(range(g.num_ws))


def test_rosinality_is_the_singular_value_decomposition(g: Generator) -> None:
    """docs/methods/sefa.md, check 3: of the raw weights, one below the other, up to sign."""
    factors = fit_sefa(g, SefaConfig(compat="rosinality"))
    weights = {name: layer.affine.weight.detach().double() for name, layer, _ in g.synthesis.layers()}
    _, values, vectors = torch.linalg.svd(torch.cat([weights[name] for name in factors.layers]), full_matrices=False)
    np.testing.assert_allclose(np.sqrt(factors.eigenvalues), values.numpy(), rtol=1e-5)
    np.testing.assert_allclose(np.abs((factors.vectors * vectors.numpy()).sum(1)), 1, atol=1e-6)


def test_edits_land_on_the_rows(g: Generator) -> None:
    """docs/methods/sefa.md, check 4: rows 2..5, and 1..4 in the e4e form; row 0 is dropped there."""
    w = random_w(g, 2)
    for compat, expected in (("genforce", [2, 3, 4, 5]), ("e4e", [1, 2, 3, 4])):
        d = fit_sefa(g, SefaConfig(rows=(2, 3, 4, 5), compat=compat)).direction(0, g)  # type: ignore[arg-type]
        step = d.step(w, 3.0)
        assert step.abs().sum((0, 2)).nonzero()[:, 0].tolist() == expected
        torch.testing.assert_close(step.norm(dim=2)[:, expected], torch.full((2, 4), 3.0))
    assert fit_sefa(g, SefaConfig(rows=(0, 2), compat="e4e")).rows == (1,)
    gaps = fit_sefa(g, SefaConfig(rows=(0, 3, 4))).direction(1, g)
    assert gaps.space == "w+"
    assert gaps.step(w, 1.0).abs().sum((0, 2)).nonzero()[:, 0].tolist() == [0, 3, 4]
    everywhere = fit_sefa(g).direction(2, g)
    assert everywhere.layers is None
    assert everywhere.name == "sefa-02"
    assert everywhere.report["unit_columns"] is True


def test_repeats_to_the_bit_and_has_a_sign(g: Generator) -> None:
    """docs/methods/sefa.md, check 5."""
    hashes = {hashlib.sha256(fit_sefa(tiny_generator(32)).vectors.tobytes()).hexdigest() for _ in range(2)}
    assert len(hashes) == 1
    vectors = fit_sefa(g).vectors
    assert (vectors.max(1) == np.abs(vectors).max(1)).all()


def test_the_hash_is_the_same_on_every_machine() -> None:
    """docs/methods/sefa.md, check 5: weights that follow from a rule, so that this very hash must come out anywhere."""
    g = tiny_generator(32)
    for name, layer, _ in g.synthesis.layers():
        weight = layer.affine.weight
        weight.data = closed_form_tensor("sefa", name, list(weight.shape), 0.0, 1.0)
    factors = fit_sefa(g)
    assert np.diff(factors.eigenvalues).max() < -1e-3  # far enough apart for rounding to matter nowhere
    assert (
        hashlib.sha256(factors.vectors.astype("<f4").tobytes()).hexdigest()
        == "fd12b48275afbb1808ed53727253ac6e0e36db5207e34d3978382f31a57ff7a9"
    )


@pytest.mark.parametrize(("resolution", "rows"), [(256, 14), (512, 16), (1024, 18)])
def test_all_resolutions_and_groups(resolution: int, rows: int) -> None:
    """docs/methods/sefa.md, check 6."""
    channels = (8,) * (resolution.bit_length() - 2)
    g = Generator(GeneratorConfig(resolution=resolution, channels=channels, z_dim=4, w_dim=16, mapping_layers=1))
    assert g.num_ws == rows
    assert len(fit_sefa(g).layers) == rows
    for group in ((0, 1), (2, 3, 4, 5), tuple(range(6, rows))):
        found = fit_sefa(g, SefaConfig(rows=group))
        assert found.rows == group
        assert len(found.layers) == len(group)
        assert found.direction(0, g).layers == (group[0], group[-1] + 1)
    for row in (0, rows - 1):
        assert fit_sefa(g, SefaConfig(rows=(row,))).rows == (row,)
    with pytest.raises(ConfigError, match=rf"rows 0 \.\. {rows - 1}, got \[{rows}\]"):
        fit_sefa(g, SefaConfig(rows=(rows,)))
    with pytest.raises(ConfigError, match="16 dimensions"):
        fit_sefa(g, SefaConfig(components=17))
    with pytest.raises(ConfigError, match=r"0 \.\. 15, got 16"):
        fit_sefa(g).direction(16, g)


def test_a_factor_moves_the_styles_more_than_others_do(g: Generator) -> None:
    factors = fit_sefa(g, SefaConfig(compat="rosinality"))
    start = Start(random_w(g, 4))

    def moved(index: int) -> float:
        after = factors.direction(index, g).apply(start.w, 1.0)
        pairs = zip(g.style_names, g.styles(after), g.styles(start.w), strict=True)
        return sum(float((a - b).square().sum()) for name, a, b in pairs if name in factors.layers)

    changes = [moved(i) for i in (0, 3, 8, 15)]
    assert changes == sorted(changes, reverse=True)


def test_golden(shared: Path) -> None:
    golden = np.load(shared / "golden/editing/sefa.npz")
    g = open_generator(str(shared / "golden" / str(golden["checkpoint"])))
    cases = {"all": SefaConfig(compat="e4e"), "sel": SefaConfig(rows=(0, 2, 3, 4), compat="e4e")}
    for key, config in cases.items():
        factors = fit_sefa(g, config)
        np.testing.assert_allclose(factors.eigenvalues, golden[f"{key}.eigenvalues_sorted"], atol=1e-6, rtol=1e-6)
        cosine = np.abs((factors.vectors * golden[f"{key}.eigenvectors_sorted"]).sum(1))
        assert cosine.min() > 1 - 1e-6
        assert list(factors.rows) == golden[f"{key}.layers_returned"].tolist()
    rosinality = fit_sefa(g, SefaConfig(compat="rosinality"))
    np.testing.assert_allclose(
        np.sqrt(rosinality.eigenvalues), golden["rosinality.singular_values"], atol=1e-6, rtol=1e-6
    )
    cosine = np.abs((rosinality.vectors.T * golden["rosinality.right_vectors"]).sum(0))
    assert cosine.min() > 1 - 1e-6
