"""Truncated singular value decomposition of weight offsets: the bound holds, and nothing gets larger."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ganinv.codes.code import Code, HeadCode, LowRank
from ganinv.codes.truncation import compress, truncated
from tests.tiny import random_w, tiny_generator


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def falling(rows: int, columns: int, batch: int = 1, seed: int = 0) -> Tensor:
    """Matrices [B, rows, columns] whose singular values halve."""
    side = min(rows, columns)
    u = torch.linalg.qr(normal(batch, rows, side, seed=seed))[0]
    v = torch.linalg.qr(normal(batch, columns, side, seed=seed + 1))[0]
    return u * 0.5 ** torch.arange(side) @ v.mT


def error_of(delta: Tensor | LowRank, exact: Tensor) -> float:
    dense = delta.dense(exact.shape[1:]) if isinstance(delta, LowRank) else delta
    return float(((dense - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)).max())


@pytest.mark.parametrize(("rows", "columns"), [(24, 90), (90, 24), (24, 24)])
@pytest.mark.parametrize("error", [0.3, 0.1, 0.02, 1e-3])
def test_the_smallest_rank_within_the_bound(rows: int, columns: int, error: float) -> None:
    matrix = falling(rows, columns)
    factors, reached = truncated(matrix, error)
    assert error_of(factors, matrix) <= error
    assert reached == pytest.approx(error_of(factors, matrix), rel=1e-3)
    values = torch.linalg.svdvals(matrix.double())[0].square()
    left = [float((values[r:].sum() / values.sum()).sqrt()) for r in range(len(values) + 1)]
    assert factors.left.shape[2] == next(r for r, e in enumerate(left) if e <= error)


def test_no_matrix_of_its_rank_is_nearer() -> None:
    matrix = normal(1, 20, 50)
    factors, reached = truncated(matrix, 0.0, rank=5)
    u, s, v = torch.linalg.svd(matrix[0], full_matrices=False)
    best = u[:, :5] * s[:5] @ v[:5]
    torch.testing.assert_close((factors.left @ factors.right)[0], best, atol=1e-5, rtol=1e-4)
    assert reached == pytest.approx(float((matrix[0] - best).norm() / matrix.norm()), rel=1e-4)


def test_a_batch_has_one_rank_that_is_enough_for_all() -> None:
    flat, steep = normal(1, 16, 40), falling(16, 40)
    both = torch.cat([flat, steep, torch.zeros(1, 16, 40)])
    factors, reached = truncated(both, 0.1)
    assert factors.left.shape == (3, 16, truncated(flat, 0.1)[0].left.shape[2])
    assert reached <= 0.1
    assert error_of(LowRank(factors.left[:2], factors.right[:2]), both[:2]) <= 0.1
    assert not (factors.left @ factors.right)[2].any()


def test_every_tensor_keeps_its_bound_or_stays() -> None:
    steep = falling(32, 288).reshape(1, 32, 32, 3, 3)
    code = Code(
        torch.zeros(1, 4, 8),
        weights={
            "convs.1.weight": steep,
            "convs.2.weight": normal(1, 32, 32, 3, 3),  # full rank: factors would be larger
            "convs.2.bias": normal(1, 32),
            "convs.2.noise_strength": normal(1),
            "convs.3.weight": LowRank(normal(1, 32, 3), normal(1, 3, 288)),
        },
        scales={"convs.4.weight": steep, "convs.5.weight": HeadCode(normal(1, 4), torch.ones(1))},
    )
    smaller, reports = compress(code, error=0.02)
    by_name = {report.name: report for report in reports}
    assert code.weights is not None
    assert smaller.weights is not None
    assert smaller.scales is not None
    for name in ("weights.convs.1.weight", "scales.convs.4.weight"):
        assert by_name[name].rank == 6
        assert by_name[name].numbers == 6 * (32 + 288)
        assert 0.005 < by_name[name].error <= 0.02
    assert error_of(smaller.weights["convs.1.weight"], steep) <= 0.02
    for name in ("convs.2.weight", "convs.2.bias", "convs.2.noise_strength", "convs.3.weight"):
        assert smaller.weights[name] is code.weights[name]
        assert by_name[f"weights.{name}"].error == 0
        assert by_name[f"weights.{name}"].numbers <= by_name[f"weights.{name}"].dense_numbers
    assert by_name["weights.convs.2.weight"].rank is None
    assert by_name["weights.convs.3.weight"].rank == 3
    assert smaller.scales["convs.5.weight"] is code.scales["convs.5.weight"]  # type: ignore[index]
    assert "scales.convs.5.weight" not in by_name


def test_a_rank_wins_over_an_error_and_the_report_says_so() -> None:
    code = Code(torch.zeros(1, 4, 8), weights={"convs.1.weight": normal(1, 32, 32, 3, 3)})
    smaller, (report,) = compress(code, error=0.02, rank=4)
    assert report.rank == 4
    assert report.error > 0.5
    assert report.error == pytest.approx(
        error_of(smaller.weights["convs.1.weight"], code.weights["convs.1.weight"]), rel=1e-4
    )  # type: ignore[index,arg-type]


def test_low_rank_offsets_are_cut_further() -> None:
    made = LowRank(normal(1, 32, 8), normal(1, 8, 288))
    code, (report,) = compress(Code(torch.zeros(1, 4, 8), weights={"convs.1.weight": made}), rank=2)
    assert (report.rank, report.numbers) == (2, 2 * 320)
    assert code.weights["convs.1.weight"].left.shape == (1, 32, 2)  # type: ignore[index,union-attr]


def test_a_compressed_code_renders_nearly_as_before() -> None:
    g = tiny_generator()
    shapes = {name: p.shape for name, p in g.synthesis.named_parameters()}
    weights = {
        name: 0.3 * falling(s[0], s[1:].numel(), batch=2).reshape(2, *s) if len(s) > 1 else 0.1 * normal(2, *s)
        for name, s in shapes.items()
    }
    code = Code(random_w(g, 2), weights=weights)
    smaller, reports = compress(code, error=0.1)
    assert sum(r.numbers for r in reports) < 0.5 * sum(r.dense_numbers for r in reports)
    before, after, plain = g.render(code), g.render(smaller), g.render(Code(code.w))
    assert (before - plain).abs().mean() > 0.05
    assert (after - before).abs().mean() < 0.2 * (before - plain).abs().mean()


@pytest.mark.parametrize("bounds", [{}, {"error": 1.0}, {"error": -0.1}, {"rank": 0}])
def test_wrong_bounds_are_refused(bounds: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"error|rank"):
        compress(Code(torch.zeros(1, 4, 8)), **bounds)  # type: ignore[arg-type]
